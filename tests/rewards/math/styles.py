"""The styles in which models write an answer, each with right and wrong values from benchmarks.

In a style `@` stands for the answer. What an answer is worth is worked out here with fractions, not
by the verifier, so a changed digit or sign is known to be wrong.
"""

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

DATA = Path(__file__).parents[4] / "shared" / "data"
SOURCES = {
    "gsm8k/test": 45,
    "svamp/all": 15,
    "gsm_hard/test": 25,
    "olympiadbench/test": 90,
    "aqua/test": 25,
}
"""How many rows are read from each benchmark."""


@dataclass(frozen=True)
class Row:
    """A reference answer, its kind (number, math, letter) and values that are not it."""

    gold: str
    kind: str
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class Style:
    """A response with `@` for the answer, the kinds of answer it suits, how they are written."""

    text: str
    kinds: tuple[str, ...]
    write: Callable[[str], str] = str

    def respond(self, answer: str) -> str:
        return self.text.replace("@", self.write(answer))


def grouped(mark: str) -> Callable[[str], str]:
    """Writes the whole part of a number in groups of three digits with `mark` between them."""

    def write(answer: str) -> str:
        whole, point, rest = answer.partition(".")
        return f"{int(whole):,}".replace(",", mark) + point + rest

    return write


def with_cents(answer: str) -> str:
    return answer if "." in answer else answer + ".00"


def doubled(answer: str) -> str:
    return answer.replace("\\", "\\\\")


NUMBER = ("number",)
MATH = ("number", "math")
LETTER = ("letter",)
ALL = ("number", "math", "letter")

STYLES = [
    # a box, and what stands around it
    Style("The answer is \\boxed{@}.", ALL),
    Style("$\\boxed{@}$", ALL),
    Style("\\[ \\boxed{@} \\]", ALL),
    Style("We add up the parts.\n\n$$\n\\boxed{@}\n$$", ALL),
    Style("**$\\boxed{@}$**", ALL),
    Style("**Final Answer**\n\\[ \\boxed{@} \\]", ALL),
    Style("Janet makes \\boxed{@} dollars every day.", NUMBER),
    Style("The shortest path is \\(\\boxed{@}\\) km long.", NUMBER),
    Style("\\begin{align*}\nx &= a+b \\\\\n&= \\boxed{@}\n\\end{align*}", MATH),
    Style("| Step | Value |\n|---|---|\n| first | 2 |\n| result | $\\boxed{@}$ |", MATH),
    Style("1. Add the parts.\n2. Halve the sum.\n3. This gives \\boxed{@}.", MATH),
    Style("\\fbox{@}", MATH),
    Style("∴ \\boxed{@}", MATH),
    Style("The answer is \\boxed{@}. To sum up: \\boxed{@}", MATH),
    Style("First I got \\boxed{1}, which is wrong. The answer is \\boxed{@}.", MATH),
    Style("\\boxed{@}\n\nLet me know if you would like another explanation!", ALL),
    Style("\\boxed{@} \\quad \\checkmark", MATH),
    Style("Hence $x = \\boxed{@}$. $\\blacksquare$", MATH),
    Style("\\\\(\\\\boxed{@}\\\\)", MATH, doubled),
    # inside a box: spacing, type, colour
    Style("\\boxed{ @ }", ALL),
    Style("\\boxed{\\,@\\,}", ALL),
    Style("\\boxed{~@~}", MATH),
    Style("\\boxed{@.}", MATH),
    Style("\\boxed{\\mathbf{@}}", ALL),
    Style("\\boxed{\\mathrm{@}}", ALL),
    Style("\\boxed{\\mbox{@}}", NUMBER),
    Style("\\boxed{\\displaystyle @}", MATH),
    Style("\\boxed{\\Large @}", MATH),
    Style("\\boxed{\\color{blue}{@}}", MATH),
    Style("\\boxed{\\underline{@}}", MATH),
    Style("\\boxed{\\text{@}}", ("number", "letter")),
    Style("\\boxed{\\textbf{@}}", ("number", "letter")),
    Style("\\boxed{**@**}", NUMBER),
    Style("\\boxed{x = @}", MATH),
    Style("\\boxed{\\text{Answer: } @}", MATH),
    Style("\\boxed{\\boldsymbol{@}}", MATH),
    Style("\\boxed{\\textcolor{red}{@}}", MATH),
    Style("\\boxed{\\color{blue} @}", MATH),
    Style("\\boxed{\\;@\\;}", MATH),
    Style("\\boxed{\\quad @ \\quad}", MATH),
    Style("\\boxed{@\\ \\checkmark}", MATH),
    Style("\\boxed{@ \\tag{1}}", MATH),
    Style("\\boxed{{@}}", MATH),
    Style("\\boxed{$@$}", MATH),
    Style("\\boxed{\\boxed{@}}", MATH),
    Style("\\boxed{\n @ \n}", MATH),
    Style("\\boxed{\\mathbf{x=@}}", NUMBER),
    Style("\\boxed{\\text{x=@}}", NUMBER),
    Style("\\boxed{\\mathrm{x}=@}", NUMBER),
    # digits in groups, cents, currency signs, units
    Style("\\boxed{@}", NUMBER, grouped(",")),
    Style("\\boxed{@}", NUMBER, grouped("{,}")),
    Style("\\boxed{@}", NUMBER, grouped("\\,")),
    Style("That makes \\boxed{@}.", NUMBER, grouped("{,}\\!")),
    Style("#### @", NUMBER, grouped(",")),
    Style("The total is \\$@.\n#### $@", NUMBER, grouped(",")),
    Style("\\boxed{@}", NUMBER, with_cents),
    Style("Answer: @ USD", NUMBER, with_cents),
    Style("\\boxed{@\\text{ dollars}}", NUMBER),
    Style("\\boxed{@\\ \\text{meters}}", NUMBER),
    Style("\\boxed{@\\text{ cm}^2}", NUMBER),
    Style("\\boxed{@\\,\\mathrm{km/h}}", NUMBER),
    Style("\\boxed{@\\,\\frac{\\text{km}}{\\text{h}}}", NUMBER),
    Style("\\boxed{@\\,€}", NUMBER),
    Style("\\boxed{\\$@}", NUMBER),
    Style("\\boxed{\\text{\\$}@}", NUMBER),
    Style("\\boxed{@ €/m²}", NUMBER),
    Style("\\boxed{@^\\circ}", NUMBER),
    Style("\\boxed{@\\%}", NUMBER),
    Style("\\boxed{\\text{@ dollars}}", NUMBER),
    Style("\\boxed{@ \\text{ (approximately)}}", NUMBER),
    Style("\\boxed{@\\ \\tfrac{\\mathrm{m}}{\\mathrm{s}^2}}", NUMBER),
    Style("\\boxed{@ \\text{ miles per hour}}", NUMBER),
    Style("\\boxed{@ \\mathrm{~cm}^{2}}", NUMBER),
    Style("\\boxed{@\\ \\rm cm}", NUMBER),
    Style("\\boxed{@\\text{ units}^2}", NUMBER),
    Style("\\boxed{@ घंटे}", NUMBER),
    Style("\\boxed{@ 平方厘米}", NUMBER),
    Style("\\boxed{@円}", NUMBER),
    Style("\\boxed{@ 小时}", NUMBER),
    Style("\\boxed{@\\text{ часов}}", NUMBER),
    Style("\\boxed{@\\text{ Stück}}", NUMBER),
    Style("\\boxed{@ años}", NUMBER),
    Style("\\boxed{@個}", NUMBER),
    Style("\\boxed{@명}", NUMBER),
    Style("Answer: @ hours.", NUMBER),
    Style("#### @ apples", NUMBER),
    Style("The answer is @ square feet.", NUMBER),
    # no box: labels, headings, lists, tags
    Style("5 + 7 = 12, and half of it is 6.\n#### @", ALL),
    Style("Answer: @", ALL),
    Style("**Answer:** @", ALL),
    Style("**Answer: @**", ALL),
    Style("**Answer**: @", ALL),
    Style("*Answer:* @", ALL),
    Style("> **Final answer:** @", ALL),
    Style("Answer: $@$", MATH),
    Style("Answer: \\(@\\).", MATH),
    Style("Final Answer: The final answer is $@$. I hope it is correct.", MATH),
    Style("Final Answer: The final answer is @. I hope it is correct.", NUMBER),
    Style("The answer is @.", ("number", "letter")),
    Style("The answer is **@**.", ("number", "letter")),
    Style("So the answer is $@$.", MATH),
    Style("Therefore, the final answer is: $@$", MATH),
    Style("The answer is @. I hope this helps!", ("number", "letter")),
    Style("Result: @", NUMBER),
    Style("Total: $@", NUMBER),
    Style("The correct answer is therefore $@$.", MATH),
    Style("La respuesta es @ euros.", NUMBER),
    Style("답은 @입니다.", NUMBER),
    Style("答えは@です。", NUMBER),
    Style("#### **@**", ("number", "letter")),
    Style("- Add the parts.\n- Halve the sum.\n- **Answer: @**", ("number", "letter")),
    Style("## Work\nWe add the parts.\n\n## Answer\n@", ("number", "letter")),
    Style("### Final Answer\n\n$@$", MATH),
    Style("<answer>@</answer>", ALL),
    Style("<answer>\n$@$\n</answer>", MATH),
    Style("@", ALL),
    Style("$@$", MATH),
    Style("\\[ @ \\]", MATH),
    Style("$x = @$", MATH),
    # reasoning, and the end of a turn
    Style("<think>Maybe \\boxed{7}.</think>\nThe answer is \\boxed{@}.", ALL),
    Style("<think>Maybe 7.\n#### 7\n</think>\n#### @", ALL),
    Style("It is B or 7.\n</think>\n\n**Answer:** @", ALL),
    Style("<think>Maybe 7.</think><answer>@</answer>", ALL),
    Style(
        "<|channel|>analysis<|message|>7<|end|><|start|>assistant<|channel|>final<|message|>@", MATH
    ),
    Style("\\boxed{@}<|im_end|>", ALL),
    Style("#### @<|eot_id|>", ALL),
    Style("The answer is @.</s>", ("number", "letter")),
    Style("Answer: $@$<end_of_turn>\n", MATH),
    Style("\\boxed{@}<|im_end|>\n<|im_start|>user\nAnd \\boxed{4}?", ALL),
    Style("#### @<end_of_turn>\n<start_of_turn>user\n#### 3", ALL),
    Style("Answer: @<|endoftext|>Question: 2+2?\nAnswer: 4", ("number", "letter")),
    # other languages
    Style("答案是 $@$。", MATH),
    Style("答案：@", ALL),
    Style("所以，最终答案为 \\boxed{@}。", ALL),
    Style("答案：@元", NUMBER),
    Style("La respuesta es $@$.", MATH),
    Style("Por lo tanto, la respuesta final es \\boxed{@}.", ALL),
    Style("Respuesta: @", ("number", "letter")),
    Style("La réponse est $@$.", MATH),
    Style("Réponse : @", ("number", "letter")),
    Style("Die Antwort ist $@$.", MATH),
    Style("Antwort: @", ("number", "letter")),
    Style("Ответ: $@$", MATH),
    Style("Ответ: @.", ("number", "letter")),
    Style("A resposta é @.", ("number", "letter")),
    Style("答えは $@$ です。", MATH),
    Style("答え：@", ("number", "letter")),
    Style("정답은 @입니다.", ("number", "letter")),
    Style("답: @", ("number", "letter")),
    Style("La risposta è @.", ("number", "letter")),
    # choices
    Style("The correct option is @.", LETTER),
    Style("So the correct choice is **(@)**.", LETTER),
    Style("Option @ is correct.", LETTER),
    Style("\\boxed{(@)}", LETTER),
    Style("\\boxed{\\textbf{(@)}\\ 42}", LETTER),
    Style("Answer: @) 42 km", LETTER),
    Style("The answer is for sure @.", LETTER),
    Style("@. It has the right sign.", LETTER),
]


def scalar(text: str) -> Fraction | float | None:
    """Sign times square of a number, fraction, root or infinity; None for anything else."""
    text = text.replace(" ", "")
    if text in ("\\infty", "+\\infty", "-\\infty"):
        return float("-inf") if text[0] == "-" else float("inf")
    sign = -1 if text.startswith("-") else 1
    text = text.removeprefix("-")
    if re.fullmatch(r"\d+(\.\d+)?|\d+/[1-9]\d*", text):
        return sign * Fraction(text) ** 2
    if found := re.fullmatch(r"\\frac\{(\d+)\}\{([1-9]\d*)\}", text):
        return sign * Fraction(int(found[1]), int(found[2])) ** 2
    if found := re.fullmatch(r"(\d*)\\sqrt\{(\d+)\}", text):
        return sign * Fraction(int(found[1] or 1) ** 2 * int(found[2]))
    return None


def parts(text: str) -> list[str]:
    """The text cut at its commas outside brackets."""
    cut, depth = [""], 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and depth == 0:
            cut.append("")
        else:
            cut[-1] += sign
    return [part.strip() for part in cut]


def worth(text: str) -> object:
    """What an answer is worth: equal for equal answers; None where it cannot be told simply."""
    text = text.strip()
    if (found := parts(text))[1:]:
        values = [worth(part) for part in found]
        return None if None in values else frozenset(values)
    if text[:1] in ("(", "[") and text[-1:] in (")", "]"):
        values = [worth(part) for part in parts(text[1:-1])]
        return None if None in values else (text[0], *values, text[-1])
    return scalar(text)


def leaves(value: object) -> frozenset:
    """The numbers in an answer, without their order and brackets."""
    if isinstance(value, tuple | frozenset):
        return frozenset().union(*map(leaves, value))
    return frozenset([value]) - {"(", "[", "]", ")"}


def changed_digit(text: str, rng: random.Random) -> str:
    """One digit of the text, before any decimal point, counted up (9 becomes 0)."""
    places = [i for i, sign in enumerate(text) if sign.isdecimal() and "." not in text[:i]]
    at = rng.choice(places)
    return text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :]


def changed_sign(text: str) -> str:
    """The text with the sign of its first number changed."""
    bracket = re.match(r"[(\[]*", text)[0]
    rest = text[len(bracket) :]
    return bracket + (rest[1:] if rest.startswith("-") else "-" + rest)


def swapped_ends(text: str) -> list[str]:
    """A pair in brackets with its values swapped, and with its brackets swapped."""
    inner = parts(text[1:-1])
    if len(parts(text)) > 1 or text[0] not in "([" or len(inner) != 2:
        return []
    other = {"(": "[", "[": "(", ")": "]", "]": ")"}
    swapped = [f"{text[0]}{inner[1]},{inner[0]}{text[-1]}"]
    if text[0] + text[-1] in ("[)", "(]"):
        swapped.append(f"{other[text[0]]}{inner[0]},{inner[1]}{other[text[-1]]}")
    return swapped


def wrong_values(gold: str, neighbour: str, rng: random.Random) -> tuple[str, ...]:
    """Answers near `gold` that differ from it."""
    value = worth(gold)
    near = [changed_sign(gold), changed_digit(gold, rng), *swapped_ends(gold)]
    near = [text for text in near if worth(text) not in (None, value)]
    return (*near, neighbour) if leaves(worth(neighbour)) != leaves(value) else tuple(near)


def kind_of(gold: str) -> str | None:
    """The kind of a reference answer; None where its worth cannot be told."""
    if re.fullmatch("[A-E]", gold):
        return "letter"
    if worth(gold) is None:
        return None
    return "number" if re.fullmatch(r"-?\d+(\.\d+)?", gold) else "math"


def read_rows(source: str, count: int, rng: random.Random) -> Iterator[Row]:
    """`count` rows of a benchmark, from a random one on; a neighbour is the next of its kind."""
    lines = (DATA / f"{source}.jsonl").read_text(encoding="utf-8").splitlines()
    golds = [json.loads(line)["answer"] for line in lines]
    golds = [gold for gold in golds if kind_of(gold)]
    start = rng.randrange(len(golds))
    golds = golds[start:] + golds[:start]
    for at, gold in enumerate(golds[:count]):
        kind = kind_of(gold)
        following = (other for other in golds[at + 1 :] if kind_of(other) == kind)
        neighbour = next(following, gold)
        if kind == "letter":
            after = "ABCDE"[("ABCDE".index(gold) + 1) % 5]
            yield Row(gold, kind, tuple({after, neighbour} - {gold}))
        else:
            yield Row(gold, kind, wrong_values(gold, neighbour, rng))


def benchmark_rows(seed: int = 5) -> list[Row]:
    """200 rows of the benchmarks, the same for the same seed."""
    rng = random.Random(seed)
    return [row for source, count in SOURCES.items() for row in read_rows(source, count, rng)]


def responses(style: Style, rows: list[Row]) -> Iterator[tuple[str, str, bool]]:
    """Reference answer, response in this style, and whether the response is right."""
    for row in rows:
        if row.kind in style.kinds:
            yield row.gold, style.respond(row.gold), True
            for wrong in row.wrong:
                yield row.gold, style.respond(wrong), False
