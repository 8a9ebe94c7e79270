"""Seeds and orders: the same for the same purpose, others for every other."""

from collections import Counter

from rlnorm.trainers.seeds import derive_seed, draw_labels, shuffled
from rlnorm.types import Prompt


def test_a_seed_depends_on_the_run_and_on_each_part_in_its_place():
    seeds = [
        derive_seed(run, *parts)
        for run in (0, 1)
        for parts in ((), ("chain-7",), (12, 3), (1, 23), (3, 12), ("12", "3", 0))
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # fixed for good: a run resumed by another version draws the same
    assert derive_seed(0, 12, "chain-7", 3) == 7039630190364072410


def test_shuffled_is_a_permutation_that_leaves_its_items_alone():
    items = list(range(20))
    assert sorted(shuffled(items, 0, "a")) == items == list(range(20))
    assert shuffled(items, 0, "a") == shuffled(items, 0, "a")
    assert shuffled(items, 0, "a") != shuffled(items, 0, "b")


def test_the_second_draw_of_a_prompt_in_a_step_has_a_label_of_its_own():
    a, b = (Prompt(prompt_id=name, token_ids=(1,)) for name in "ab")
    draws: Counter[str] = Counter()
    assert draw_labels([a, b, a], 12, draws) == ["12", "12", "12.1"]
    assert draw_labels([b], 12, draws) == ["12.1"]
    assert draw_labels([b], 13, Counter()) == ["13"]
