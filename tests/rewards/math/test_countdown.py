import pytest

from rlnorm.rewards.math.countdown import check_countdown, evaluate


@pytest.mark.parametrize(
    ("answer", "correct"),
    [
        (r"\boxed{(8 + 35) + 37}", True),
        (r"\boxed{8 + 35 + 37 = 80}", True),
        (r"<answer>37+(35+8)</answer>", True),
        (r"\boxed{8 + 35 + 37 = 81}", False),
        (r"\boxed{80}", False),
        (r"\boxed{35 + 37 + 8 + 0}", False),
        (r"\boxed{35 + 45}", False),
        (r"\boxed{8 + 35 + 37 + 37 - 37}", False),
        (r"\boxed{-8 + 35 + 37}", False),
        (r"\boxed{8 35 37}", False),
        (r"\boxed{__import__('os')}", False),
        ("8 + 35 + 37", True),
        ("no way", False),
    ],
)
def test_countdown_checks_the_expression(answer, correct):
    assert (check_countdown(answer, [35, 8, 37], 80).status == "correct") == correct


def test_countdown_is_exact():
    # 8 / (3 - 8 / 3) is 24; in floats it is 23.99...
    assert check_countdown(r"\boxed{\frac{8}{3 - 8 \div 3}}", [8, 3, 8, 3], 24).status == "correct"
    assert evaluate("7 - 2 * 3")[0] == 1
    assert check_countdown(r"\boxed{1 / (2 - 2)}", [1, 2, 2], 1).status == "unparsable"
