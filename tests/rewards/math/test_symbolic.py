import pytest

from rlnorm.rewards.math.symbolic import allowed


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
