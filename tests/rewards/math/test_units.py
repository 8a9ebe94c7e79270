import pytest

from rlnorm.rewards.math.units import is_void, unit_key
from rlnorm.rewards.math.verify import verify
from rlnorm.rewards.types import Status

RIGHT = [
    (r"5 \text{ hours}", r"5 \text{ hr}"),
    (r"5 \text{ cm}^2", r"5 \text{ square centimeters}"),
    (r"5 \text{ m/s}", r"5 \text{ meters per second}"),
    (r"5 \text{ m/s}", r"5 \text{ m}/\text{s}"),
    (r"5 \text{ miles per hour}", "5 mph"),
    (r"3 \text{ p.m.}", r"3 \text{ PM}"),
    ("2500000", r"2.5 \text{ million}"),
    ("2500000", r"\text{2.5 million dollars}"),
    ("1500000", "1 1/2 million"),
    ("300000", r"3 \text{ hundred thousand}"),
    (r"5 \text{ million}", r"\$5{,}000{,}000"),
    ("12", r"12 \text{ pieces of cake}"),
    (r"5 \text{ m/s}", r"5\,\mathrm{m\,s^{-1}}"),
    (r"5 \text{ m/s}^2", r"5\,\mathrm{m}\cdot\mathrm{s}^{-2}"),
    (r"5 \text{ kg m/s}^2", r"5\ \mathrm{kg}\cdot\mathrm{m}/\mathrm{s}^2"),
    (r"30^\circ", r"30\text{ degrees}"),
    ("(30,60)", r"(30^\circ, 60^\circ)"),
    (r"30^\circ C", r"30\text{ degrees Celsius}"),
    ("30", r"30^\circ\text{C}"),
    ("3:30 PM", r"3:30\text{ p.m.}"),
    ("45", "USD 45"),
    ("45", r"\text{Rs. }45"),
]
WRONG = [
    (r"5 \text{ hours}", r"5 \text{ minutes}"),
    (r"5 \text{ cm}^2", r"5 \text{ cm}"),
    (r"5 \text{ square inches}", r"5 \text{ cubic inches}"),
    (r"5 \text{ km/h}", r"5 \text{ m/s}"),
    (r"3 \text{ p.m.}", r"3 \text{ a.m.}"),
    ("5", r"5 \text{ million}"),
    (r"5 \text{ million}", "5"),
    ("2", "2 dozen"),
    ("5", r"5 \text{ or 6}"),
    ("5", r"5 \text{ or maybe six}"),
    ("5", r"\text{5 or 6}"),
    ("5", r"x = 5 \text{ (not 6)}"),
    ("5", r"5 \text{ squared}"),
    (r"5 \text{ m/s}", r"5\,\mathrm{m\,s^{-2}}"),
    (r"30^\circ", r"30\text{ radians}"),
    (r"60^\circ", r"60\text{ minutes}"),
    (r"30^\circ C", r"30^\circ F"),
    ("45", "USD 46"),
    ("5", r"5 \text{ is wrong}"),
]


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_the_same_amount(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is Status.CORRECT


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_another_amount(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is Status.WRONG


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("centimetres", "cm"),
        ("sq. ft", "ft^2"),
        ("cubic meters per second^2", "m^3 s^2"),
        ("pieces", ""),
        ("cm or 6", ""),
    ],
)
def test_unit_key(name, key):
    assert unit_key(name) == key


def test_a_remark_is_void_only_when_it_says_something_else():
    assert [is_void(r) for r in ("(approximately)", "m^2", "or 6", "i don't know", "oranges")] == [
        False,
        False,
        True,
        True,
        False,
    ]
