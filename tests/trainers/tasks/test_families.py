import ast
import re
from fractions import Fraction

import pytest

from rlnorm.trainers.tasks import TASKS, generate, generate_split, pool_of
from rlnorm.trainers.tasks.chain import check, solve

ALL_LEVELS = [(name, level) for name, family in TASKS.items() for level in family.levels]
BOX = re.compile(r"\\boxed\{(.*)\}")


def test_chain_is_worked_from_left_to_right():
    assert solve("47-2 +1 *2 ?") == [47, 45, 46, 92]
    check("47-2 +1 *2 ?", "47-2=45\n45+1=46\n46*2=92\n\\boxed{92}")


@pytest.mark.parametrize(
    "wrong",
    [
        "47-2=46\n46+1=47\n\\boxed{47}",
        "47-2=45\n45+1=46\n\\boxed{45}",
        "45+1=46\n\\boxed{46}",
        "47-2=45\n45+1=46\n\\boxed{46}\n",
    ],
)
def test_chain_check_refuses_a_wrong_solution(wrong):
    with pytest.raises(ValueError, match="allowed '47-2=45"):
        check("47-2 +1 ?", wrong)


def test_chain_check_refuses_a_value_out_of_range():
    with pytest.raises(ValueError, match="values in 1 to 99"):
        check("60*2 ?", "60*2=120\n\\boxed{120}")


@pytest.mark.parametrize("level", TASKS["chain"].levels)
def test_chain_problems_keep_to_their_level_and_range(level):
    operators = set()
    for problem in generate("chain", 300, [level], seed=3):
        values = solve(problem.question)
        operations = re.findall(r"([-+*])(\d+)", problem.question)
        assert len(operations) == problem.level == level
        assert 2 <= values[0] <= 60
        assert all(1 <= value <= 99 for value in values)
        assert all(int(n) in ((2, 3) if op == "*" else range(1, 10)) for op, n in operations)
        assert problem.answer == str(values[-1])
        check(problem.question, problem.demonstration)
        operators |= {op for op, _ in operations}
    assert operators == {"+", "-", "*"}


@pytest.mark.parametrize(("task", "level"), ALL_LEVELS)
def test_every_demonstration_line_is_true_and_ends_in_the_boxed_answer(task, level):
    for problem in generate(task, 60, [level], seed=5):
        *lines, last = problem.demonstration.split("\n")
        assert BOX.fullmatch(last).group(1) == problem.answer
        assert lines
        for line in lines:
            left, right = line.split("=")
            assert exact(left) == int(right)


@pytest.mark.parametrize("level", TASKS["add"].levels)
def test_add_demonstrations_work_column_by_column(level):
    for problem in generate("add", 60, [level], seed=2):
        a, b = (int(n) for n in problem.question.removesuffix(" ?").split("+"))
        assert len(str(a)) == len(str(b)) == level
        assert problem.answer == str(a + b)
        columns = problem.demonstration.split("\n")[:-1]
        for place, line in enumerate(columns):
            digits, carried = 10**place, (a % 10**place + b % 10**place) // 10**place
            summands = [int(n) for n in line.split("=")[0].split("+")]
            assert summands == [a // digits % 10, b // digits % 10, *([carried] * (carried > 0))]


@pytest.mark.parametrize("level", TASKS["word"].levels)
def test_word_stories_say_what_their_working_does(level):
    gains = {"finds": 1, "gets": 1, "buys": 1, "picks": 1}
    losses = {"loses": -1, "sells": -1, "gives": -1, "drops": -1}
    for problem in generate("word", 60, [level], seed=2):
        start = int(re.search(r"has (\d+)", problem.question).group(1))
        events = re.findall(r"(\w+) (\d+)\.", problem.question)
        assert len(events) == level
        counts = [start]
        for verb, amount in events:
            counts.append(counts[-1] + (gains | losses)[verb] * int(amount))
        assert all(1 <= count <= 99 for count in counts)
        assert problem.answer == str(counts[-1])


@pytest.mark.parametrize("level", TASKS["countdown"].levels)
def test_countdown_witness_uses_each_number_once_and_hits_the_target(level):
    for problem in generate("countdown", 60, [level], seed=2):
        numbers, target = problem.extras["numbers"], problem.extras["target"]
        assert sorted(map(int, re.findall(r"\d+", problem.answer))) == sorted(numbers)
        assert exact(problem.answer) == target
        assert len(numbers) == level
        assert target not in numbers
        assert problem.question.startswith(f"Make {target} from {' '.join(map(str, numbers))} ")


@pytest.mark.parametrize("task", TASKS)
def test_problems_are_distinct_and_a_seed_repeats_them(task):
    first, again = generate(task, 200, seed=1), generate(task, 200, seed=1)
    assert first == again
    assert len({p.question for p in first}) == len({p.id for p in first}) == 200
    other = {p.question for p in generate(task, 200, seed=2)}
    assert len(other & {p.question for p in first}) < 100


@pytest.mark.parametrize("task", TASKS)
def test_splits_share_no_prompt_whatever_their_seeds(task):
    train = {p.question for seed in (0, 7) for p in generate_split(task, "train", 512, seed)}
    heldout = generate_split(task, "heldout", 128, seed=3)
    hard = generate_split(task, "hard", 128)
    held = {p.question for p in (*heldout, *hard)}
    assert len(held) == 256
    assert not train & held
    assert {p.level for p in heldout} == set(TASKS[task].train_levels)
    assert {p.level for p in hard} == set(TASKS[task].hard_levels)


def test_levels_come_in_turn_and_excluded_questions_stay_out():
    problems = generate("chain", 6, [3, 5], seed=1)
    assert [p.level for p in problems] == [3, 5, 3, 5, 3, 5]
    taken = {p.question for p in problems}
    assert not taken & {p.question for p in generate("chain", 6, [3, 5], seed=1, exclude=taken)}


def test_one_question_in_eight_is_held_out():
    problems = generate("chain", 4000, seed=4)
    share = sum(pool_of(p.question) == "heldout" for p in problems) / 4000
    # four standard errors of 1/8 in 4000 draws
    assert abs(share - 1 / 8) < 4 * (1 / 8 * 7 / 8 / 4000) ** 0.5


def test_a_level_that_runs_dry_says_how_many_it_had():
    # two numbers of two digits: 90 * 90 = 8100 questions
    with pytest.raises(ValueError, match=r"add level 2 has too few .* asked for 8101 problems"):
        generate("add", 8101, [2], seed=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: generate("chian", 1), "task = 'chian': allowed 'chain', 'word'"),
        (lambda: generate("chain", 1, [7]), r"levels of chain = \[7\]: allowed \[2, 3, 4, 5, 6\]"),
        (lambda: generate("chain", 1, []), r"levels of chain = \[\]: allowed"),
        (lambda: generate_split("chain", "test", 1), "split = 'test': allowed 'train', 'heldout'"),
    ],
)
def test_bad_arguments_name_what_is_allowed(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def exact(expression: str) -> Fraction:
    """Value of an expression of + - * / and whole numbers, in exact arithmetic."""

    def value(node):
        if isinstance(node, ast.Constant):
            return Fraction(node.value)
        left, right = value(node.left), value(node.right)
        match node.op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
            case ast.Div():
                return left / right

    return value(ast.parse(expression, mode="eval").body)
