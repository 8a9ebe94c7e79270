import pytest

from rlnorm.rewards.format import boxed_format, think_format


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"1+1=2 \boxed{2}", 1.0),
        (r"$\boxed{2}$.", 1.0),
        (r"\[\boxed{2}\]", 1.0),
        (r"**\boxed{2}**" + "\n", 1.0),
        (r"\boxed{\frac{1}{2}}", 1.0),
        (r"\boxed{2}<|im_end|>" + "\n", 1.0),
        (r"\boxed{2}</s> \boxed{3}", 1.0),
        (r"\boxed{2} is it", 0.0),
        (r"\boxed{1} \boxed{2}", 0.0),
        (r"\boxed{}", 0.0),
        (r"\boxed{2", 0.0),
        ("2", 0.0),
        ("", 0.0),
    ],
)
def test_boxed_format(text, value):
    assert boxed_format(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<think>a</think>b", 1.0),
        ("a</think>b", 1.0),
        ("<think></think>b", 1.0),
        ("\n<think>a</think>\nb", 1.0),
        ("x<think>a</think>b", 0.0),
        ("<think>a</think>", 0.0),
        ("<think>a</think>  ", 0.0),
        ("<think>a", 0.0),
        ("b", 0.0),
        ("<think><think>a</think></think>b", 0.0),
        ("<think>a</think>b</think>c", 0.0),
        ("<think>a</think>b<|im_end|><think>c", 1.0),
        ("<think>a<|im_end|></think>b", 0.0),
        ("<think>a</think><think>b</think>c", 0.0),
        ("</think>a<think>b", 0.0),
    ],
)
def test_think_format(text, value):
    assert think_format(text) == value


def test_prefilled_says_which_shape_counts():
    assert think_format("a</think>b", prefilled=True) == 1.0
    assert think_format("<think>a</think>b", prefilled=True) == 0.0
    assert think_format("a</think>b", prefilled=False) == 0.0
    assert think_format("<think>a</think>b", prefilled=False) == 1.0


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("<answer>5</answer>", 1.0),
        ("<answer> </answer>", 0.0),
        ("<answer>5</answer> done", 0.0),
        ("<answer>5</answer><answer>6</answer>", 0.0),
        ("5", 0.0),
    ],
)
def test_answer_tags(answer, value):
    assert think_format(f"<think>a</think>{answer}", answer_tags=True) == value
