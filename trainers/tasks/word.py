"""`word`: a story in which someone gains and loses things; the level is the number of events.

Arithmetic and worked solution are those of `chain` with only + and -. In addition, the model must
read which sentences are gains and which are losses.
"""

from random import Random

from rlnorm.trainers.tasks.problem import Draft, Family

HIGHEST = 99
_NAMES = ("Ada", "Ben", "Eva", "Ian", "Kim", "Leo", "Mia", "Tom")
_THINGS = ("pens", "nuts", "eggs", "keys", "cups", "figs", "maps", "bells")
_GAINS = ("finds {}.", "gets {}.", "buys {}.", "picks {}.")
_LOSSES = ("loses {}.", "sells {}.", "gives {}.", "drops {}.")


def draw(rng: Random, level: int) -> Draft:
    """One story of `level` events, with every intermediate count in 1 to 99."""
    name, thing, count = rng.choice(_NAMES), rng.choice(_THINGS), rng.randint(2, 60)
    sentences, lines = [f"{name} has {count} {thing}."], []
    for _ in range(level):
        gains, amount = rng.random() < 0.5, rng.randint(1, 9)
        while not 1 <= (after := count + amount if gains else count - amount) <= HIGHEST:
            gains, amount = rng.random() < 0.5, rng.randint(1, 9)
        sentences.append(f"{name} {rng.choice(_GAINS if gains else _LOSSES).format(amount)}")
        lines.append(f"{count}{'+' if gains else '-'}{amount}={after}")
        count = after
    return Draft(
        question=" ".join([*sentences, f"How many {thing}?"]),
        answer=str(count),
        demonstration="\n".join([*lines, f"\\boxed{{{count}}}"]),
    )


FAMILY = Family(draw=draw, levels=(1, 2, 3, 4), train_levels=(1, 2, 3), hard_levels=(4,))
