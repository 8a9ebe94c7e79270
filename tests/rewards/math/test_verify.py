import json
import random
import time
from fractions import Fraction
from pathlib import Path

import pytest

from rlnorm.errors import InputError
from rlnorm.rewards.math.compare import Policy
from rlnorm.rewards.math.normalize import normalize
from rlnorm.rewards.math.symbolic import Symbolic, allowed
from rlnorm.rewards.math.verify import check_policy, plain_number, verify
from rlnorm.rewards.types import Status

CASES = Path(__file__).parents[4] / "shared" / "verifier_cases"

RIGHT = [
    ("x^2<4", r"\boxed{-x^2>-4}"),
    (r"(0,1]\cup(1,2)", r"\boxed{(0,2)}"),
    ("5", r"\boxed{5}"),
    ("10/9", r"\frac{-10}{-9}"),
    (r"\{1,2\}", r"$\{1\} \cup \{2\}$"),
    ("x^2+2x+1", r"\boxed{(x+1)^2}"),
    (r"\frac{\sqrt{3}}{3}", r"\boxed{\frac{1}{\sqrt3}}"),
    (r"\sqrt{x^2}", r"\boxed{|x|}"),
    (r"2\ln x", r"\boxed{\ln x^2}"),
    (r"\sin^2 x", r"\boxed{1-\cos^2 x}"),
    (r"\sin^{-1}(1)", r"\boxed{\frac{\pi}{2}}"),
    (r"\log_2 8", r"\boxed{3}"),
    (r"0.\overline{3}", r"\boxed{\frac13}"),
    (r"\frac{\pi}{2}", r"\boxed{1.570796}"),
    ("12", r"\boxed{12 \text{ apples}}"),
    ("12", r"\boxed{12\text{ pieces of cake}}"),
    ("12", r"\boxed{\text{12 dollars}}"),
    (r"\text{(A)}", r"\boxed{A}"),
    ("5", "The answer is **5**."),
    ("5", "**Answer:** 5"),
    ("5", "Answer: $5$."),
    ("5", r"Final answer: \(5\)"),
    ("5", "<answer>5</answer>"),
    ("5", "<answer> 5 </answer> trailing"),
    ("5", "5"),
    ("5", "<think>..</think> 5"),
    ("-2", r"\boxed{4-6}"),
    ("5", r"\boxed{5,5}"),
    ("5", r"\boxed{\{5\}}"),
    ("(1,2)", r"\boxed{1,2}"),
    (r"\{1,2\}", r"\boxed{1,2}"),
    ("1,2", r"\boxed{2 \text{ and } 1}"),
    ("y=2x+1", r"\boxed{y-2x=1}"),
    ("y=2x+1", r"\boxed{2x+1}"),
    ("2x+1", r"\boxed{f(x)=2x+1}"),
    ("x=5", r"\boxed{5}"),
    ("x>3", r"\boxed{3<x}"),
    ("2x>6", r"\boxed{x>3}"),
    ("-1<x<2", r"\boxed{(-1,2)}"),
    ("-1<x<2", r"\boxed{2>x>-1}"),
    (r"x\le 2", r"\boxed{(-\infty,2]}"),
    (r"(-\infty,0)\cup(0,\infty)", r"\boxed{x\neq 0}"),
    (r"\mathbb{R}", r"\boxed{\mathbb{R}}"),
    (r"\mathbb{R}", r"\boxed{(-\infty,\infty)}"),
    (r"\emptyset", r"\boxed{\varnothing}"),
    ("1:2", r"\boxed{1:2}"),
    ("1:2", r"\boxed{2:4}"),
    (r"\frac{1}{2}", r"\boxed{0.5}"),
    (r"\frac12", r"\boxed{.5}"),
    ("1000000", r"\boxed{10^6}"),
    ("1000000", r"\boxed{1\times10^6}"),
    ("1000000", r"\boxed{1e6}"),
    ("5!", r"\boxed{120}"),
    ("2^{10}", r"\boxed{1024}"),
    ("i", r"\boxed{\sqrt{-1}}"),
    ("2+3i", r"\boxed{3i+2}"),
    (r"\text{Evelyn}", r"\boxed{Evelyn}"),
    ("yes", r"\boxed{\text{Yes}}"),
    (r"\text{no}", r"\boxed{\text{No.}}"),
    (r"3\sqrt{2}", r"\boxed{3\sqrt2}"),
    (r"\sqrt[3]{8}", r"\boxed{2}"),
    (r"\sqrt[3]{-8}", r"\boxed{-2}"),
    ("(-8)^{1/3}", r"\boxed{-2}"),
    (r"90^\circ", r"\boxed{90}"),
    ("90", r"\boxed{90^{\circ}}"),
    (r"\sin 30^\circ", r"\boxed{\frac12}"),
    (r"12 \text{ cm}^2", r"\boxed{12 \text{ cm}^2}"),
    (r"12 \text{ cm}^2", r"\boxed{12}"),
    (r"\$5.50", r"\boxed{5.5}"),
    ("5.50", r"\boxed{\$5.50}"),
    ("1,234,567", r"\boxed{1234567}"),
    (r"1\frac{3}{4}", r"\boxed{\frac74}"),
    (r"-1\frac{1}{2}", r"\boxed{-1.5}"),
    ("2,4,6", r"\boxed{\{2,4,6\}}"),
    ("x=1,x=2", r"\boxed{1,2}"),
    (r"x=1 \text{ or } x=2", r"\boxed{x=2,1}"),
    ("100,200,300", r"\boxed{300,100,200}"),
    ("(1,2),(3,4)", r"\boxed{(3,4),(1,2)}"),
    ("0", r"\boxed{-0}"),
    ("1", r"\boxed{0.\overline{9}}"),
    (r"\infty", r"\boxed{+\infty}"),
    ("n(n+1)/2", r"\boxed{\frac{n^2+n}{2}}"),
    ("a_n=2n+1", r"\boxed{2n+1}"),
    ("6", r"\boxed{5}. So \boxed{6}"),
    ("7", r"\boxed{7 \text{ (approximately)}}"),
    ("7", r"\boxed{\approx 7}"),
    ("7", r"\boxed{x \approx 7}"),
    ("9^{9^9}", r"\boxed{9^{9^{9}}}"),
    ("100!", r"\boxed{100!}"),
    ("1/3", r"\boxed{0.3333333}"),
    (r"\frac{1}{10^{30}}", r"\boxed{10^{-30}}"),
    ("5", r"\boxed{５}"),
    ("5", r"\boxed{**5**}"),
    (r"\pi", r"\boxed{π}"),
    ("x^2", r"\boxed{x²}"),
    ("1/2", r"\boxed{½}"),
    ("5/2", r"\boxed{2½}"),
    (r"\sqrt{2}", r"\boxed{√2}"),
    ("-5", r"\boxed{–5}"),
    (r"\frac{a}{b}", r"\boxed{a/b}"),
    (r"\frac{x+1}{x-1}", r"\boxed{(x+1)/(x-1)}"),
    ("x+1", r"\boxed{x + 1.}"),
    (r"\binom{n}{2}", r"\boxed{\frac{n(n-1)}{2}}"),
    ("C", r"\boxed{\text{C}}"),
    ("C", "The answer is (C)."),
    ("C", "The correct option is C."),
    ("C", r"\boxed{C) 5}"),
    ("3", r"\boxed{1+1+1}"),
    ("5", r"\boxed{\text{the answer is } 5}"),
    ("5", r"\boxed{ANS=5}"),
    ("5", r"\boxed{\text{The answer is 5}}"),
    ("5", r"\boxed{\text{answer: 5 cm}}"),
    ("5", r"\boxed{5=x}"),
    ("5", r"$5 = a_3$"),
    ("5", "$$5$$"),
    ("5", r"\[x=5\]"),
    ("11", r"\boxed{x=5+6=11}"),
    ("5", "Answer: 5 apples"),
    ("5", "The answer is 5 because 2+3=5."),
    ("120", "#### 120 dollars"),
    ("120", "#### $120"),
    ("3.5", "#### 3.50"),
    ("60", "The answer is 60%."),
    ("72", "... Therefore 72 clips.\nThe answer is: 72"),
    (r"\frac{3}{8}", r"\boxed{\dfrac{3}{8}}"),
    (r"(3,\pi/2)", r"\boxed{\left( 3, \frac{\pi}{2} \right)}"),
    ("p - q", r"\boxed{p-q}"),
    (r"x=\pm 2", r"\boxed{\pm2}"),
    (r"x=\pm 2", r"\boxed{2,-2}"),
    (r"\{x|x>3\}", r"\boxed{(3,\infty)}"),
    (r"[0,1)\cup[1,2]", r"\boxed{[0,2]}"),
    ("7", r"\boxed{7\;\text{units}}"),
    ("2.5", r"\boxed{2\tfrac12}"),
    ("84", r"\boxed{84\%}"),
    ("10:30", r"\boxed{10:30 \text{ AM}}"),
    ("March 5", r"\boxed{\text{March 5}}"),
    ("6", r"\boxed{6\mathrm{~cm}}"),
    ("6", r"\boxed{6\,\mathrm{cm}}"),
    ("6", r"\boxed{6~\text{cm}}"),
    ("x^3+3x^2", r"\boxed{x^2(x+3)}"),
    ("5", r"\boxed{5y^0}"),
    ("2", r"\boxed{\frac{4}{2}}"),
]
WRONG = [
    ("0", r"\boxed{0^0}"),
    ("x^2<4", r"\boxed{-x^2<-4}"),
    (r"(0,1)\cup(1,2)", r"\boxed{(0,2)}"),
    (r"\frac{1}{3000000}", r"\boxed{0.0000001}"),
    (r"\sqrt{2}", r"\boxed{\frac{665857}{470832}}"),
    ("[0,1)", r"\boxed{[0,1]}"),
    ("|x|", r"\boxed{x}"),
    (r"\sqrt{x^2}", r"\boxed{x}"),
    ("x^{5}", r"\boxed{x^6}"),
    ("0.333...", r"\boxed{1/3}"),
    ("5", r"\boxed{4.9999999}"),
    ("5", r"\boxed{5.0000001}"),
    ("3.14159", r"\boxed{\pi}"),
    ("12", r"\boxed{\text{twelve}}"),
    ("3/4", r"\boxed{75\%}"),
    (r"50\%", r"\boxed{0.5}"),
    ("5", "the answer is not 5"),
    ("5", "5 or 6"),
    ("5", "x"),
    ("5", "It could be 5."),
    ("5", "I think it's 5 but maybe 6"),
    ("5", "<think>5"),
    ("5", r"\boxed{5}</think>\boxed{6}"),
    ("5", "[4,6]"),
    ("5", r"\boxed{4-6}"),
    ("(1,2)", r"\boxed{[1,2]}"),
    ("x=5", r"\boxed{y=5}"),
    ("5", r"\boxed{5=2x}"),
    ("5", r"\boxed{5<x}"),
    ("5", r"\boxed{6=x}"),
    ("5", r"\boxed{\text{The answer is 5 or 6}}"),
    ("5", r"\boxed{\text{The answer is not 5}}"),
    ("x>3", r"\boxed{x<3}"),
    ("2^{10}", r"\boxed{1025}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\boxed{\begin{pmatrix}2\\1\end{pmatrix}}"),
    (r"\begin{pmatrix}1&2\end{pmatrix}", r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}"),
    (r"\text{Evelyn}", r"\boxed{\text{Bob}}"),
    (r"90^\circ", r"\boxed{\frac{\pi}{2}}"),
    ("12 cm", r"\boxed{12 \text{ m}}"),
    ("12", r"\boxed{12 m}"),
    ("1234", r"\boxed{1,23,4}"),
    ("2,4,6", r"\boxed{2,4}"),
    ("(1,2),(3,4)", r"\boxed{(2,1),(3,4)}"),
    ("0", r"\boxed{0.0000001}"),
    ("1", r"\boxed{0.9999999}"),
    (r"-\infty", r"\boxed{\infty}"),
    ("e", r"\boxed{2.718}"),
    ("5", r"\boxed{5}\boxed{6}"),
    ("5", r"\boxed{five}"),
    ("42", r"\boxed{42\text{ is not the answer, }43}"),
    ("9^{9^9}", r"\boxed{9^{9^{8}}}"),
    ("10^{100}", r"\boxed{10^{101}}"),
    ("100!+1", r"\boxed{100!}"),
    ("1/3", r"\boxed{0.33333}"),
    (r"\sqrt{2}\cdot10^{-30}", r"\boxed{0}"),
    ("C", "B"),
    ("3", "So 1+2 = 3"),
    ("5", "Answer: 5, 6"),
    (r"k\pi, k\in\mathbb{Z}", r"\boxed{k\pi}"),
    (r"\int_0^1 x dx", r"\boxed{\frac12}"),
    ("5x", r"\boxed{5}"),
    ("5", r"\boxed{5x}"),
    ("f(x)=x+1", r"\boxed{g(x)=x+1}"),
    ("11/2", r"\boxed{1 1/2}"),
    ("1 1/2", r"\boxed{11/2}"),
    (r"3\frac14", r"\boxed{31/4}"),
    ("12345", r"\boxed{1 2 3 4 5}"),
    ("56", r"\boxed{5\quad 6}"),
    ("CBAD", r"\boxed{CABD}"),
    ("A", r"\boxed{(A) or (B)}"),
    ("B", "The answer is not B."),
]


@pytest.mark.parametrize(("gold", "response"), RIGHT)
def test_equal_answers(gold, response):
    assert verify(gold, response).status is Status.CORRECT


@pytest.mark.parametrize(("gold", "response"), WRONG)
def test_different_answers(gold, response):
    assert verify(gold, response).status is not Status.CORRECT


def _is_correct(gold, response, symbolic):
    """The verdict of all layers; the last runs here, where the reward uses a worker."""
    verdict = verify(gold, response)
    texts = normalize(verdict.gold), normalize(verdict.answer)
    if verdict.undecided and all(map(allowed, texts)):
        return symbolic(texts)
    return verdict.status is Status.CORRECT


@pytest.mark.parametrize("name", ["public", "round2"])
def test_every_published_case(name):
    cases = CASES / f"{name}.jsonl"
    if not cases.is_file():
        pytest.skip(f"{cases} is not here")
    symbolic = Symbolic()
    rows = [json.loads(line) for line in cases.read_text().splitlines()]
    core = [row for row in rows if row["category"] != "policy"]
    assert len(core) > 60
    wrong = [r for r in core if _is_correct(r["gold"], r["pred"], symbolic) != r["expected"]]
    assert not [row["id"] for row in wrong]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-1,234.50", Fraction(-2469, 2)),
        ("$12", 12),
        ("\\$12", 12),
        ("-$3", -3),
        ("+7", 7),
        ("007", 7),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("12,34", None),
        ("1,234,56", None),
        ("", None),
        (".", None),
        ("-", None),
        ("1e5", None),
        ("٣", None),
        ("9" * 401, None),
    ],
)
def test_plain_number(text, value):
    assert plain_number(text) == value


@pytest.mark.parametrize(
    ("response", "status", "layer"),
    [
        ("\\boxed{5}", "correct", "number"),
        ("\\boxed{6}", "wrong", "number"),
        ("\\boxed{}", "wrong", "text"),
        ("no idea", "no_answer", "text"),
        ("<think> \\boxed{5}", "no_answer", "text"),
        ("\\boxed{\\frac{10}{2}}", "correct", "structure"),
        ("\\boxed{int('5')}", "unparsable", "structure"),
        ("\\boxed{9^{9^{9}}}", "unparsable", "structure"),
    ],
)
def test_status_and_layer(response, status, layer):
    verdict = verify("5", response)
    assert (verdict.status, verdict.layer) == (status, layer)


def test_an_empty_gold_is_a_gold_error():
    assert verify("  ", "\\boxed{5}").status is Status.GOLD_ERROR


@pytest.mark.parametrize(
    ("gold", "response", "table", "correct"),
    [
        ("33.3", "\\boxed{\\frac{100}{3}}", {}, False),
        ("33.3", "\\boxed{\\frac{100}{3}}", {"relative_tolerance": 1e-2}, True),
        ("4.2", "\\boxed{4.25}", {"absolute_tolerance": 0.1}, True),
        ("4.2", "\\boxed{4.35}", {"absolute_tolerance": 0.1}, False),
        ("\\sqrt{2}", "\\boxed{1.41}", {"relative_tolerance": 0.01}, True),
        ("10\\%", "\\boxed{10}", {}, True),
        ("10\\%", "\\boxed{10}", {"percent": "strict"}, False),
        ("10\\%", "\\boxed{10\\%}", {"percent": "strict"}, True),
        ("10\\%", "\\boxed{0.1}", {}, False),
        ("10\\%", "\\boxed{0.1}", {"percent": "value"}, True),
        ("5 cm", "\\boxed{5 \\text{ km}}", {}, False),
        ("5 cm", "\\boxed{5 \\text{ km}}", {"units": "ignore"}, True),
    ],
)
def test_policy_of_a_data_set(gold, response, table, correct):
    verdict = verify(gold, response, check_policy(table, "policy"))
    assert (verdict.status is Status.CORRECT) == correct


def test_a_wrong_policy_is_named():
    with pytest.raises(InputError, match="did you mean 'percent'"):
        check_policy({"percnt": "value"}, "math.policy")
    with pytest.raises(InputError, match=r"allowed \['ignore', 'strict', 'value'\]"):
        check_policy({"percent": "maybe"}, "math.policy")


def test_random_wrong_integers_never_score():
    rng = random.Random(3)
    for _ in range(2000):
        gold, said = rng.randint(-999, 9999), rng.randint(-999, 9999)
        expected = Status.CORRECT if gold == said else Status.WRONG
        assert verify(str(gold), f"so \\boxed{{{said:,}}}").status is expected


PIECES = (
    r"\frac { } ^ _ | \{ \\ , = \boxed{ $ ! \begin{pmatrix} \text{ \pm \log_ & ' ... \over \mathbf{"
)


def test_mutated_text_never_raises():
    rng = random.Random(11)
    pieces = [*PIECES.split(), "9" * 40, "\ud800", "\0", "½", "\\cup ", "万", "<|im_end|>", "]"]
    seeds = [text for pair in RIGHT + WRONG for text in pair]
    for _ in range(3000):
        text, gold = rng.choice(seeds), rng.choice(seeds)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(pieces) + text[at + rng.randint(0, 5) :]
        assert isinstance(verify(gold, f"\\boxed{{{text}}}", Policy()).status, Status)


LONG = [
    "\\",
    "\\frac{",
    "\\text{a",
    "{",
    "[",
    "$a",
    "1,",
    "1/",
    "12km/",
    "x^",
    "\\left(",
    "答案",
    "α",
    "年",
    "<|",
]


@pytest.mark.parametrize("piece", LONG)
@pytest.mark.parametrize("frame", ["{}", "\\boxed{{{}}}", "12{}", "Answer: {}", "{}\\boxed{{5}}"])
def test_a_long_repetition_stays_far_below_the_bound(piece, frame):
    start = time.process_time()
    for length in (3900, 60_000):
        verify("5", frame.format(piece * (length // len(piece))))
    assert time.process_time() - start < 1.0


def test_arbitrary_characters_never_raise():
    rng = random.Random(12)
    ranges = (0x80, 0x3000, 0x110000)
    for _ in range(1500):
        gold, said = (
            "".join(chr(rng.randrange(rng.choice(ranges))) for _ in range(rng.randrange(120)))
            for _ in range(2)
        )
        frame = rng.choice(["{}", "\\boxed{{{}}}", "#### {}", "Answer: {}"])
        start = time.process_time()
        assert isinstance(verify(gold, frame.format(said)).status, Status)
        assert time.process_time() - start < 1.0
