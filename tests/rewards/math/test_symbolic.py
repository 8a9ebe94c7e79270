import pytest

from rlnorm.rewards.math.symbolic import Symbolic, allowed


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        (r"\int_0^1 x dx", True),
        (r"\sum_{k=1}^{100} k", True),
        (r"\sum_{k=1}^{1000000} k", False),
        (r"\input{/etc/passwd}", False),
        ("__import__('os')", False),
        (r"\int_0^1 x^{x^{x^{x}}} dx", False),
        ("lambda: 1", False),
        ("x" * 401, False),
    ],
)
def test_allow_list_of_layer_four(text, ok):
    assert allowed(text) == ok


def test_a_sum_that_comes_close_is_not_equal():
    symbolic = Symbolic()
    assert symbolic(("2-2^{-20}", r"\sum_{k=0}^{20}2^{-k}"))
    assert not symbolic(("2", r"\sum_{k=0}^{200}2^{-k}"))
