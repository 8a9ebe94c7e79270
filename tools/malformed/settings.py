"""Configs that cannot be run: every key with values of the wrong type or out of its range."""

from typing import get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from malformed.case import Malformed
from rlnorm.trainers.config.load import sections

NEEDED = {
    "model.lora": ["model.lora.rank=4"],
    "rewards": [],
    "data.train.<name>": ["data.train={<name>: {source: 'task:chain'}}"],
}
"""What makes a section exist, before one of its keys is set wrong."""
FILE = "run.yaml"


def _bounds(field: FieldInfo) -> list[str]:
    """A value just outside of each bound."""
    values = []
    for bound in field.metadata:
        if isinstance(bound, Gt):
            values.append(str(bound.gt))
        elif isinstance(bound, Lt):
            values.append(str(bound.lt))
        elif isinstance(bound, Ge):
            values.append(str(bound.ge - 1))  # type: ignore[operator]  # bounds are numbers
        elif isinstance(bound, Le):
            values.append(str(bound.le + 1))  # type: ignore[operator]  # bounds are numbers
    return values


def _wrong_values(field: FieldInfo) -> list[str]:
    kinds = {field.annotation, *get_args(field.annotation)}
    if kinds & {int, float}:
        return ["many", "[1]", "true", "nan", "'3 or so'", *_bounds(field)]
    if bool in kinds:
        return ["perhaps", "2", "[true]"]
    if str in kinds and not any(dict in (k, getattr(k, "__origin__", None)) for k in kinds):
        return ["[a]", "{a: b}", "7", '"\\ud800"']
    return ["7", "true"]


def every_key() -> list[Malformed]:
    """Two wrong values for each key that holds a value, and a misspelling of it."""
    cases = []
    for at, section in sections().items():
        for name, field in section.model_fields.items():
            key = f"{at}.{name}".lstrip(".")
            if key in sections() or at.startswith("rewards") or key in FREE:
                continue
            needed = next((v for k, v in NEEDED.items() if at.startswith(k)), [])
            for value in _wrong_values(field):
                cases.append(
                    Malformed(
                        name=f"{key}={value}",
                        arguments=[*needed, f"{key}={value}"],
                        names=[rf"{key}\b"],
                    )
                )
            cases.append(
                Malformed(
                    name=f"{key}: misspelt",
                    arguments=[*needed, f"{key[:-1]}_={'1'}"],
                    names=[rf"{name[:-1]}_: unknown key", "choose from"],
                )
            )
    return cases


FREE = ("algorithm", "rewards", "data.train", "data.eval", "model.path")
"""Keys whose values the other lists of cases are about."""


def combinations() -> list[Malformed]:
    """Values that are right alone and wrong together, or that name what does not exist."""
    table: dict[str, tuple[list[str], str]] = {
        "no-model": (["model.path=/nowhere"], "model.path"),
        "model-file": (["model.path=run.txt"], "model.path"),
        "model-s3": (["model.path=s3://bucket/model"], "model.path"),
        "output-s3": (["output_dir=s3://bucket/runs"], "output_dir"),
        "output-file": (["output_dir=file:///tmp/runs"], "output_dir"),
        "output-in-file": (["output_dir=run.txt"], "run.txt"),
        "shipped": (["model.path=shipped:quikc"], "model.path"),
        "algorithm": (["algorithm=grop"], "grpo"),
        "algorithm-slot": (["algorithm={name: grpo, estimatr: rloo}"], "estimatr"),
        "algorithm-option": (
            ["algorithm={name: grpo, estimator: {name: grpo, epsilon: 1}}"],
            "eps",
        ),
        "algorithm-type": (["algorithm={name: grpo, estimator: {name: grpo, eps: three}}"], "eps"),
        "algorithm-negative": (["algorithm={name: grpo, estimator: {name: grpo, eps: -1}}"], "eps"),
        "algorithm-list": (["algorithm=[grpo]"], "algorithm"),
        "group-of-one": (["rollout.group_size=1"], "rollout.group_size"),
        "lone-engine": (["rollout.engines=2"], "rollout.engines"),
        "lone-ranks": (["learner.ranks=2"], "learner.ranks"),
        "address": (["cluster.address=host"], "cluster.address"),
        "bfloat16": (["model.dtype=bfloat16"], "model.dtype"),
        "no-room": (["rollout.max_tokens=100000"], "rollout.max_tokens"),
        "minibatches": (["learner.minibatches=65"], "learner.minibatches"),
        "not-an-assignment": (["learner.lr"], "learner.lr"),
        "two-dots": (["learner..lr=1"], "learner"),
        "sub-key-of-number": (["seed.more=1"], "seed"),
        "bad-yaml": (["learner.betas=[0.9"], "learner.betas"),
        "system-prompt": (['data.system_prompt="\\ud800"'], "data.system_prompt"),
        "stop-surrogate": (['rollout.stop=["\\ud800"]'], "rollout.stop"),
        "fields-unknown": (["data.fields={qestion: a}"], "data.fields"),
        "fields-twice": (["data.fields={question: a, messages: b}"], "fields"),
        "same-data": (["data.eval={mine: 'task:chain:train'}"], "data.eval.mine"),
        "environment": (["rollout.environment={name: chian}"], "rollout.environment"),
        "environment-nameless": (["rollout.environment={turns: 3}"], "rollout.environment"),
    }
    return [
        Malformed(name=name, arguments=arguments, files={"run.txt": b"text"}, names=[names])
        for name, (arguments, names) in table.items()
    ]


def yaml_files() -> list[Malformed]:
    """Files that are no config."""
    good = "model: {path: 'shipped:quick'}\ndata: {train: 'task:chain'}\n"
    rewards = "rewards: [{name: correct, function: boxed_exact}]\n"
    table: dict[str, tuple[bytes, str]] = {
        "empty": (b"", ""),
        "list": (b"- a\n- b\n", ""),
        "text": (b"train on chain\n", ""),
        "tab": (b"model:\n\tpath: a\n", "line 2"),
        "unclosed": (b"model: {path: a\n", "line"),
        "twice": ((good + rewards + "steps: 1\nsteps: 2\n").encode(), "steps"),
        "bytes": (b"model: \xff\xfe\n", ""),
        "null-byte": (b"model: \x00\n", ""),
        "python-object": (b"model: !!python/object/apply:os.system ['true']\n", ""),
        "no-rewards": (good.encode(), "rewards"),
        "rewards-table": ((good + "rewards: {correct: boxed_exact}\n").encode(), "rewards"),
        "rewards-empty": ((good + "rewards: []\n").encode(), "rewards"),
        "number-key": ((good + rewards + "7: 1\n").encode(), "7"),
        "null-section": ((good + rewards + "learner:\n").encode(), "learner"),
        "section-list": ((good + rewards + "learner: [lr]\n").encode(), "learner"),
        "surrogate": ((good + rewards + 'run_name: "\\ud800"\n').encode(), "run_name"),
        "alias-loop": (b"model: &a {path: *a}\n", "model"),
    }
    cases = [
        Malformed(
            name=f"file/{name}",
            config=FILE,
            files={FILE: content},
            names=[rf"{FILE}|{key or FILE}"],
        )
        for name, (content, key) in table.items()
    ]
    missing = Malformed(name="file/missing", config="nowhere.yaml", names=["nowhere.yaml"])
    unknown = Malformed(name="preset", config="quikstart", names=["quickstart"])
    return [*cases, missing, unknown]


CASES = [*every_key(), *combinations(), *yaml_files()]
