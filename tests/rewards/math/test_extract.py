import pytest

from rlnorm.rewards.math.extract import extract, extract_gold


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"so \boxed{5}", "5"),
        (r"\boxed{5} then \boxed{6}", "6"),
        (r"\boxed{1} and \boxed{-2}.", "1 , -2"),
        (r"$x=\boxed{1}$, $y=\boxed{2}$", "1 , 2"),
        (r"\boxed{5} \boxed{6}", "6"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\\boxed{840}", "840"),
        (r"\fbox{3}", "3"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{20} percent", r"20\%"),
        ("x }} \\boxed{5}", "5"),
        ("<think>\\boxed{1}</think>\\boxed{2}", "2"),
        ("work\n#### 1,234", "1,234"),
        ("#### 5\n#### 6", "6"),
        ("<answer> 7 </answer>", "7"),
        ("Answer: 5", "5"),
        ("**Answer:** 5", "5"),
        ("The answer is 4 4/9.", "4 4/9"),
        ("Final Answer: The final answer is 12. I hope it is correct.", "12"),
        ("Final Answer: The volume of $A$ is 120. I hope it is correct. <|im", "120"),
        ("The solution is $x \\le 5$", "x \\le 5"),
        ("The answer is 6. No, the answer is 5.", "5"),
        ("The answer is $6$. No wait, my final answer is $5$. I hope this answer is clear.", "5"),
        ("Final answer: the answer is 5.", "5"),
        ("The answer is 6. I hope this answer is clear.", "6"),
        ("The answer is 6.\n\nI hope this answer is clear.", "6"),
        ("The answer is 6. Now the answer is complete.", "6"),
        ("The answer is 6. A wrong answer is 5.", "6"),
        ("The answer is 6, so the answer is not 5.", "6, so the answer is not 5"),
        ("The answer is Paris. I hope this answer is clear.", "Paris"),
        ("$5$", "5"),
        ("#### Step 1: add\n2 + 3\n\nThe answer is 5.", "5"),
        ("### Solution: add\n2 + 3\n\n#### Final Answer\n**5**", "**5**"),
        ("The answer is A. Wait, the answer is B.", "B"),
        ("## Answer\n6\n\nAnswer: 5", "5"),
        ("#### Tuesday", "Tuesday"),
        ("#### 5<|eot_id|></s>", "5"),
        ("#### 5<|im_end|>\n<|im_start|>user\n#### 4", "5"),
        (r"\boxed{5}<end_of_turn>\boxed{4}", "5"),
        ("<answer>So the answer is: 5</answer>", "5"),
        ("Answer: 5 (because 2 + 3 = 5)", "5"),
        ("所以答案是 5。", "5"),
        ("x^2 + 1", "x^2 + 1"),
        ("28 percent", "28 percent"),
    ],
)
def test_finds(response, answer):
    assert extract(response).answer == answer


@pytest.mark.parametrize(
    ("response", "rejected"),
    [
        (r"\boxed{5} \boxed{}", True),
        (r"\boxed{ }", True),
        (r"\boxed{5", True),
        (r"\boxed{1} and \boxed{\frac{5}{}", True),
        ("<think>\\boxed{5}", False),
        ("<think>\\boxed{5}</think> not sure", False),
        ("We tried 12, then 13. None works.", False),
        ("It is $12$ or maybe $13$, I guess.", False),
        ("Not $5$.", False),
        ("#### 5\n#### Notes\nNone.", False),
        ("", False),
        ("</think>", False),
    ],
)
def test_finds_nothing(response, rejected):
    found = extract(response)
    assert found.answer is None
    assert found.rejected == rejected
    assert found.why


@pytest.mark.parametrize(
    ("gold", "bare"),
    [(r"so \boxed{5}.", "5"), ("steps\n#### 72", "72"), (" 3/4 ", "3/4"), (r"\boxed{}", "")],
)
def test_gold_texts(gold, bare):
    assert extract_gold(gold) == bare
