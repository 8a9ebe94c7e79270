import importlib.util
from pathlib import Path

import pytest

from rlnorm.methods import STAGES, algorithms, methods
from rlnorm.named_algorithms import ALGORITHMS

DOCS = Path(__file__).parents[2] / "docs"


def load_generator():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["methods.md", "grpo_variants.md"])
def test_the_committed_page_is_up_to_date(page):
    assert (DOCS / page).read_text() == load_generator().PAGES[page](), (
        "run python docs/generate.py"
    )


def test_every_stage_and_algorithm_is_listed():
    listed = {(m.slot, m.name) for m in methods()}
    assert listed == {(slot, name) for slot, table in STAGES.items() for name in table}
    assert [a.name for a in algorithms()] == list(ALGORITHMS)


def test_a_row_says_what_a_reader_needs():
    row = next(m for m in methods() if m.name == "ace")
    assert row.paper.startswith("arXiv:2602.21420")
    assert row.options == {
        "alpha": 1.0,
        "modulation": "softplus",
        "cap": None,
        "length_normalise": False,
    }
    assert row.file == "rlnorm/modulators/ace.py"
    lp_reg = next(m for m in methods() if m.name == "lp_reg")
    assert lp_reg.options["rho"] == 0.01
    assert lp_reg.options["kappa"] == 0.02
