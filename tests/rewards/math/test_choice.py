import pytest

from rlnorm.rewards.math.choice import choice_letter, labelled_letter, stated_letter
from rlnorm.rewards.math.verify import verify
from rlnorm.rewards.types import Status


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("(B)", "B"),
        (r"\text{B}", "B"),
        (r"\text{Option B}", "B"),
        ("Option B or C", None),
        ("B.", "B"),
        (r"\textbf{(C)}", "C"),
        ("BC", None),
        ("x", None),
    ],
)
def test_choice_letter(text, letter):
    assert choice_letter(text) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("(A) 12", "A"),
        ("B. f(A) = 3", "B"),
        (r"\textbf{(C)}\ 12", "C"),
        ("(A) or (B)", None),
        ("(A)(B)(C)(D)", None),
        ("A. or B.", None),
        ("(A) and B", None),
    ],
)
def test_labelled_letter(text, letter):
    assert labelled_letter(text) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is for sure D, it can't be A or B", "D"),
        ("The answer: D, it doesn't make sense for it to be A", "D"),
        ("D. it can't be A or B", "D"),
        ("I think the correct answer is C", "C"),
        ("All of them look right.", None),
        ("The answer is A, not B.", "A"),
        ("Option A is wrong. The answer is C.", "C"),
        ("The answer is not B.", None),
        ("The answer cannot be B", None),
        ("Option A is wrong, option B isn't it either, so C.", None),
        ("The answer is A or B.", None),
        ("The answer is both A and B", None),
        ("A, B", None),
    ],
)
def test_stated_letter(text, letter):
    assert stated_letter(text) == letter


RIGHT = [
    ("B", "Weighing the options, therefore I think it's B"),
    ("B", "I think it's (B)."),
    ("B", "It must be B."),
    ("B", "I'd go with B because of this."),
    ("B", "So B."),
    ("B", "Therefore, B."),
    ("B", "B is correct."),
    ("B", "(B) is the correct answer."),
    ("B", "The correct option is **B**."),
    ("B", "答案：B"),
    ("B", "故选B。"),
    ("B", "选 B"),
    ("B", "答案是(B)"),
    ("B", "La respuesta es B."),
    ("B", "La réponse est B"),
    ("B", "Die Antwort ist B."),
    ("B", r"\boxed{\textbf{B}}"),
    ("B", r"\boxed{\boldsymbol{B}}"),
    ("B", r"\boxed{\text{(B) } 12}"),
    ("B", "정답: B"),
    ("B", "A is wrong, so it's B."),
    ("B", "I think the answer is A. Wait, it's B."),
    ("B", "Answer: B"),
    ("B", "**Answer: B**"),
    ("B", "Answer: (B) 57"),
    ("B", "The answer is option B."),
    ("B", "The correct choice is (B)."),
    ("B", "I would choose B."),
    ("B", "I'll go with option B."),
    ("B", "Therefore, the answer is B."),
    ("B", "So the correct option is B: 57."),
    ("B", "Hence (B)."),
    ("B", "It's B."),
    ("B", "it must be (B)"),
    ("B", r"\boxed{B. 57}"),
    ("B", r"\boxed{\text{B}. 57}"),
    ("B", r"\boxed{\text{Option B}}"),
    ("B", "ответ: B"),
    ("B", "Respuesta: B"),
    ("B", "正解はBです"),
    ("B", "答えはB"),
    ("B", "#### B"),
    ("B", "<answer>B</answer>"),
    ("B", "B) 57"),
    ("B", "A is too small and C is too large, so the answer is B."),
    ("B", "I believe B is correct."),
    ("B", "Choose B."),
    ("B", "So choose (B)."),
    ("B", "Pick **B**"),
    ("B", "Select option B."),
    ("B", "If we add the parts we get 7, so the answer is B."),
    ("B", "Since the sum is 5, the correct answer is B."),
    ("B", "If A is correct then 2=3. So B."),
    ("B", "Could A be right? No, B is correct."),
    ("B", "Suppose the answer is A. Then 2=3. The answer is B."),
    ("B", "选B"),
]
WRONG = [
    ("B", "I think it's B, no, it is C"),
    ("B", "I think it's A"),
    ("B", "It's B or C"),
    ("B", "It's not B."),
    ("B", "I think it's B but it could be C."),
    ("B", "B is wrong."),
    ("B", "B is correct? No, C is correct."),
    ("B", "The answer is A, not B."),
    ("B", "So A."),
    ("B", "It's either B or C"),
    ("B", "答案不是B"),
    ("B", "答案：A"),
    ("B", "故选A，不选B"),
    ("B", "A is correct, B is not."),
    ("B", "It's Bob."),
    ("B", "So Better."),
    ("A", "It is A long way."),
    ("I", "It is I who think so."),
    ("B", "Neither A nor B."),
    ("B", r"\boxed{A or B}"),
    ("B", "Option A or B is correct."),
    ("B", "la respuesta no es B"),
    ("B", "Answer: A or B"),
    ("B", "The answer is A. B is wrong."),
    ("B", "Not B."),
    ("B", "The answer is (A), (B)."),
    ("B", "I would choose A over B."),
    ("B", "It's between A and B."),
    ("B", "B might be right, but the answer is C."),
    ("B", "It's A, not B"),
    ("B", "It's B? No, it's A."),
    ("B", "option B is wrong"),
    ("B", "The answer isn't B"),
    ("B", r"\boxed{A}, not B"),
    ("B", r"\boxed{AB}"),
    ("B", "BC"),
    ("B", "A B C D"),
    ("B", "Bob"),
    ("B", "I'd eliminate B."),
    ("B", "I choose neither A nor B."),
    ("B", "B or not B"),
    ("A", "选A或B"),
    ("A", "选A或者B"),
    ("A", "选A、B"),
    ("A", "选A和B"),
    ("A", "选择A还是B"),
    ("B", "选A或B"),
    ("A", "Either A is correct or B is."),
    ("A", "A is correct or B is."),
    ("B", "Either A is correct or B is correct."),
    ("A", "If A is correct then 2=3."),
    ("A", "If the answer is A then 2=3."),
    ("A", "Suppose A is correct. Then 2=3."),
    ("A", "Assume the answer is A. Then 2=3."),
    ("A", "Unless A is correct, 2=3."),
    ("A", "Whether A is correct is unclear."),
    ("A", "Could it be that A is correct?"),
    ("A", "Is A correct?"),
    ("A", "如果答案是A"),
    ("B", "Choose A or B."),
    ("B", "Don't choose B."),
    ("B", "Never choose B."),
    ("B", "Do not pick B."),
    ("B", "Choose Bob."),
    ("B", "Choose B, C or D."),
    ("A", "Choose A number from 1 to 5."),
]


@pytest.mark.parametrize(("gold", "response"), RIGHT)
def test_a_letter_that_is_stated(gold, response):
    assert verify(gold, response).status is Status.CORRECT


@pytest.mark.parametrize(("gold", "response"), WRONG)
def test_a_letter_that_is_stated_but_not_the_gold(gold, response):
    assert verify(gold, response).status is not Status.CORRECT
