"""`rlnorm.trainers.train`: a run from Python with functions of the caller's own."""

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from rlnorm.errors import InputError
from rlnorm.rewards.data.files import read_rows
from rlnorm.trainers import RunResult, train
from rlnorm.trainers.config.file import read_table
from rlnorm.trainers.config.schema import load_config
from rlnorm.trainers.errors import Interrupted, RunError
from rlnorm.trainers.files import read_jsonl

SMALL = (
    "steps=2",
    "data.eval={}",
    "data.train_limit=64",
    "rollout.prompts_per_step=4",
    "learner.minibatches=1",
    "deterministic=true",
)


def lines(completion):
    """Replaced by closures where a test needs a function that no worker can import."""
    return float(completion.count("\n"))


@pytest.fixture
def small(tmp_path):
    """Overrides of a run that takes two seconds, in a folder of its own."""
    return [*SMALL, f"output_dir={tmp_path}", "run_name=r"]
