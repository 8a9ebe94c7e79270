import pytest

from rlnorm.rewards.math.matrices import reduced
from rlnorm.rewards.math.parse import parse
from rlnorm.rewards.math.verify import verify
from rlnorm.rewards.types import Status


def m(rows, kind="pmatrix"):
    return f"\\begin{{{kind}}}" + rows.replace(";", "\\\\") + f"\\end{{{kind}}}"


SAME = [
    (m("4&6;8&10"), m("1&2;3&4") + "+" + m("3&4;5&6")),
    (m("-2&-2;-2&-2"), m("1&2;3&4") + "-" + m("3&4;5&6")),
    (m("2&4;6&8"), "2" + m("1&2;3&4")),
    (m("2&4;6&8"), "2\\cdot" + m("1&2;3&4", "bmatrix")),
    (m("1&2;3&4"), "\\frac{1}{2}" + m("2&4;6&8")),
    (m("\\frac12&1;\\frac32&2"), "\\tfrac12" + m("1&2;3&4")),
    (m("-1&-2;-3&-4"), "-" + m("1&2;3&4")),
    (m("19&22;43&50"), m("1&2;3&4") + m("5&6;7&8")),
    (m("19&22;43&50"), m("1&2;3&4") + "\\cdot" + m("5&6;7&8")),
    (m("19&22;43&50"), m("1&2;3&4") + "\\times " + m("5&6;7&8")),
    (m("1&3;2&4"), m("1&2;3&4") + "^T"),
    (m("1&3;2&4"), m("1&2;3&4") + "^{\\top}"),
    (m("1&3;2&4"), m("1&2;3&4") + "^{\\mathsf T}"),
    (m("1&3;2&4"), m("1&2;3&4") + "^\\intercal"),
    (m("1;2"), m("1&2") + "^T"),
    (m("7&10;15&22"), m("1&2;3&4") + "^2"),
    (m("a+1&b;c&d+1"), m("a&b;c&d") + "+" + m("1&0;0&1")),
    (m("1&2;3&4"), m("2&4;6&8") + "/2"),
    (m("1&2;3&4"), "\\frac{" + m("2&4;6&8") + "}{2}"),
    (m("5;11"), m("1&2;3&4") + m("1;2")),
    (m("1;2"), "1\\cdot" + m("1;0") + "+2\\cdot" + m("0;1")),
    (m("2t+1;3t"), m("1;0") + "+t" + m("2;3")),
    (m("2&4;6&8"), m("1&2;3&4") + "\\cdot 2"),
    ("A=" + m("2&4;6&8"), "2" + m("1&2;3&4")),
    (m("2&4;6&8"), "A=2" + m("1&2;3&4")),
    ("2" + m("1;2"), m("2;4")),
    ("(2,4)", "2" + m("1;2")),
    (m("4&6;8&10"), "\\left(" + m("1&2;3&4") + "\\right)+" + m("3&4;5&6")),
    ("\\frac{1}{5}" + m("3&-1;-5&2"), m("0.6&-0.2;-1&0.4")),
    (m("3&3", "bmatrix"), "3\\left[" + m("1&1", "matrix") + "\\right]"),
]
OTHER = [
    (m("4&6;8&10"), m("1&2;3&4") + "+" + m("3&4;5&7")),
    (m("4&6;8&10"), m("1&2;3&4") + "-" + m("3&4;5&6")),
    (m("4&6;8&11"), "2" + m("2&3;4&5")),
    (m("2&4;6&8"), "3" + m("1&2;3&4")),
    (m("2&4;6&8"), "2+" + m("1&2;3&4")),
    (m("2&4;6&8"), m("1&2;3&4")),
    (m("23&34;31&46"), m("1&2;3&4") + m("5&6;7&8")),
    (m("1&2;3&4"), m("1&2;3&4") + "^T"),
    (m("1&2"), m("1;2")),
    (m("1&2"), m("1&2") + "^T"),
    (m("1&4;9&16"), m("1&2;3&4") + "^2"),
    (m("1&2;3&4"), m("1&2;3&4") + "+" + m("0&0")),
    (m("4&6"), m("1&2") + "+" + m("3;4")),
    (m("11"), m("1;2") + m("3;4")),
    ("11", m("1&2") + "\\cdot " + m("3&4")),
    (m("1&2;3&4"), m("1&2;3&4") + "^{-1}"),
    (m("1&2;3&4"), "x" + m("1&2;3&4")),
    (m("1&2;3&4"), m("2&4;6&8") + "/3"),
    (m("1&2;3&4"), "\\frac{2}{" + m("1&2;3&4") + "}"),
    (m("0;0"), "10^{-300}" + m("1;1")),
    (m("2&4"), "2" + m("1&2;3&4")),
    ("2", m("2") + m("2;3")),
    (m("-1&-2;-3&-4"), m("1&2;3&4")),
    ("(4,2)", "2" + m("1;2")),
    (m("1&1;1&1"), m("1&1;1&1") + "^{13}"),
    (m("2&4;6&8"), "2" + m("1&2;3&4") + "+C"),
]


@pytest.mark.parametrize(("gold", "answer"), SAME)
def test_arithmetic_gives_the_same_matrix(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is Status.CORRECT
    assert verify(answer, f"\\boxed{{{gold}}}").status is Status.CORRECT


@pytest.mark.parametrize(("gold", "answer"), OTHER)
def test_another_matrix(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is not Status.CORRECT
    assert verify(answer, f"\\boxed{{{gold}}}").status is not Status.CORRECT


def test_what_is_not_defined_stays_as_written():
    node = parse(m("1&2") + "+" + m("1;2"))
    assert reduced(node) == node


def test_a_large_product_is_undecided():
    row = "&".join("1" * 30)
    square = m(";".join([row] * 14))
    assert verify("1", f"\\boxed{{{square}^9}}").status is not Status.CORRECT
