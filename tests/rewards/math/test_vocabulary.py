import pytest

from rlnorm.rewards.math.vocabulary import POWERS_AFTER, POWERS_BEFORE, SCALES, UNITS, by_name


@pytest.mark.parametrize("table", [UNITS, SCALES, POWERS_BEFORE, POWERS_AFTER])
def test_a_name_means_one_thing(table):
    names = table.replace(":", "").split()
    assert sorted(names) == sorted(set(names))


def test_a_line_may_go_on_below():
    assert by_name("\nm: meter\n   метр\ns:\n") == {"m": "m", "meter": "m", "метр": "m", "s": "s"}


def test_no_number_word_is_a_unit():
    assert not by_name(SCALES).keys() & by_name(UNITS).keys()
