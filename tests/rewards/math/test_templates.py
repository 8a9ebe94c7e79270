"""Answers to benchmark rows in the layouts, units, labels and languages that models write.

Each template is filled with the gold, which must be right, and with wrong values (another sign,
another digit, another row's answer, swapped ends), which must not. V stands for the value.
"""

import json
import random
import re
from pathlib import Path

import pytest

from rlnorm.rewards.math.verify import verify
from rlnorm.rewards.types import Status

DATA = Path(__file__).parents[4] / "shared" / "data"
ANY_VALUE = [
    r"\boxed{V}",
    r"So the answer is $\boxed{V}$.",
    r"$$\boxed{V}$$",
    r"\[ \boxed{V} \]",
    r"\(\boxed{V}\)",
    r"**Answer:** $\boxed{V}$",
    r"\fbox{V}",
    r"\boxed{\displaystyle V}",
    r"\boxed{\mathbf{V}}",
    r"\boxed{\boldsymbol{V}}",
    r"\boxed{\textcolor{red}{V}}",
    r"\boxed{\color{blue} V}",
    r"\boxed{~V~}",
    r"\boxed{\;V\;}",
    r"\boxed{\,V\,}",
    r"\boxed{\quad V \quad}",
    r"\boxed{ V.}",
    r"\boxed{V\ \checkmark}",
    r"\boxed{V \tag{1}}",
    r"\boxed{\underline{V}}",
    r"\boxed{\large V}",
    r"\boxed{{V}}",
    r"\boxed{$V$}",
    r"\boxed{\boxed{V}}",
    r"\boxed{V}<|im_end|>",
    "\\boxed{V}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n\\boxed{0.123}",
    "<think>\\boxed{99.5}</think>\n\\boxed{V}",
    r"<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>$\boxed{V}$<|return|>",
    "The answer is $V$.",
    "Answer: $V$",
    "**Answer**: $V$",
    "Final Answer: The final answer is $V$. I hope it is correct.",
    "### Final Answer\n$V$",
    "$$V$$",
    r"\[V\]",
    r"Therefore, the final answer is: $\boxed{V}$. I hope it is correct.",
    "Step 1: 3 + 4 = 7.\n#### V",
    "<answer>V</answer>",
    "<answer>\n$V$\n</answer></s>",
    "Respuesta: $V$",
    "La respuesta final es $V$.",
    "La réponse est $V$.",
    "Die Antwort lautet $V$.",
    "Ответ: $V$",
    "答案：$V$",
    "答案是 $V$。",
    r"所以最终答案为：$\boxed{V}$。",
    "答え：$V$",
    "정답: $V$",
    "Risposta: $V$",
    "Resposta: $V$",
    "Result: $V$",
    r"Let me redo this: \boxed{0.123}. No wait, that is wrong. \boxed{V}",
    "The correct answer is therefore $V$.",
    r"\\boxed{V}",
    "V",
    "$V$",
    "Answer: V",
    r"\boxed{\text{Answer: } V}",
    "\\boxed{\n V \n}",
]
A_NUMBER = [
    r"\boxed{x=V}",
    r"\boxed{x = V}",
    r"\boxed{\mathbf{x=V}}",
    r"\boxed{\text{x=V}}",
    r"\boxed{\mathrm{x}=V}",
    r"\boxed{V \text{ cm}}",
    r"\boxed{V\,\mathrm{kg}}",
    r"\boxed{V \text{ apples}}",
    r"\boxed{V\ \text{km/h}}",
    r"\boxed{V\,\frac{\text{km}}{\text{h}}}",
    r"\boxed{V\ \tfrac{\mathrm{m}}{\mathrm{s}^2}}",
    r"\boxed{\$V}",
    r"\boxed{$V}",
    r"\boxed{V€}",
    r"\boxed{V €/m²}",
    r"\boxed{V元}",
    r"\boxed{V 平方厘米}",
    r"\boxed{V años}",
    r"\boxed{V Jahre}",
    r"\boxed{V mètres}",
    r"\boxed{V лет}",
    r"\boxed{V시간}",
    r"\boxed{V円}",
    r"\boxed{V घंटे}",
    r"\boxed{V^\circ}",
    r"\boxed{V\%}",
    r"\boxed{\textbf{V}}",
    r"\boxed{\text{V dollars}}",
    r"\boxed{\text{V}}",
    r"\boxed{V \text{ (approximately)}}",
    "答案：V元",
    "答えはVです。",
    "답은 V입니다.",
    "Total: V",
    "Total: $V",
    "The answer is V dollars.",
    "#### V",
    "#### $V",
    "#### V apples",
    "Answer: V km",
    "Ответ: V рублей.",
    "La respuesta es V euros.",
    "**V**",
    "The final answer is V. I hope it is correct.",
    "V",
    r"\boxed{\text{\$}V}",
    r"\boxed{V \text{ miles per hour}}",
    r"\boxed{V \mathrm{~cm}^{2}}",
    r"\boxed{V\ \rm cm}",
    r"\boxed{V\text{ units}^2}",
    r"\boxed{+V}",
]
VALUES = (
    r"\frac{2}{3}",
    "-7",
    "(0,1)",
    "[2,5)",
    r"2\sqrt{10}",
    "n^{2}+1",
    r"\{1,4\}",
    "3:8",
    "-0.5",
)
NUMBERS = ("18", "-3", "70000", "2.5", "1,234", "-848240", "3244047.0999999996")


def golds(kind):
    """The benchmark's answers where they are here, and a few of every form."""
    files = ("gsm8k", "gsm_hard") if kind == "number" else ("olympiadbench",)
    found = list(NUMBERS if kind == "number" else VALUES)
    for name in files:
        path = DATA / name / "test.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        found += [str(json.loads(line)["answer"]) for line in lines]
    return [gold for gold in found if "$" not in gold and "%" not in gold]


def wrong_values(gold, others, rng):
    yield rng.choice(others)
    yield gold[1:] if gold.startswith("-") else f"-{gold}"
    digits = [match.start() for match in re.finditer(r"\d", gold)]
    if digits:
        at = rng.choice(digits)
        yield gold[:at] + str((int(gold[at]) + rng.randint(1, 9)) % 10) + gold[at + 1 :]
    ends = re.fullmatch(r"([\[(])([^,]*),([^,]*)([\])])", gold)
    if ends:
        yield ends[1] + ends[3] + "," + ends[2] + ends[4]


def is_correct(gold, response):
    return verify(gold, response).status is Status.CORRECT


@pytest.mark.parametrize("kind", ["any", "number"])
def test_every_template_pays_the_gold_and_nothing_else(kind):
    rng = random.Random(5)
    pool = golds(kind)
    for template in ANY_VALUE if kind == "any" else ANY_VALUE + A_NUMBER:
        for gold in rng.sample(pool, 7):
            if gold.startswith("-") and "+V" in template:
                continue
            response = template.replace("V", gold)
            assert is_correct(gold, response), (gold, response)
            for wrong in wrong_values(gold, pool, rng):
                if not is_correct(gold, f"\\boxed{{{wrong}}}"):
                    response = template.replace("V", wrong)
                    assert not is_correct(gold, response), (gold, response)


def test_most_wrong_values_are_wrong():
    # what the test above leaves out as equal to the gold is rare: -x for ±x, a neighbour's answer
    rng = random.Random(6)
    pool = golds("number")
    tried = [
        (gold, wrong) for gold in rng.sample(pool, 7) for wrong in wrong_values(gold, pool, rng)
    ]
    assert sum(is_correct(gold, f"\\boxed{{{wrong}}}") for gold, wrong in tried) <= 2
