import asyncio
import math
import sys
import threading
from pathlib import Path

import pytest
import torch

from rlnorm.lookup import load_object
from rlnorm.rewards import InputError, RewardError, Sample, Score, Status, load_rewards
from rlnorm.rewards.pool import WorkerPool


@pytest.fixture(autouse=True)
def _user_code(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "user_code"))


def samples(*texts, gold="aa"):
    return [
        Sample(id=str(i), group="g", completion=t, gold=gold, token_ids=tuple(range(len(t))))
        for i, t in enumerate(texts)
    ]


def score(specs, batch, **kwargs):
    async def run():
        kwargs.setdefault("workers", 1)
        scorer = load_rewards(specs, on_alarm=lambda alarm: None, **kwargs)
        try:
            return await scorer.score(batch), scorer
        finally:
            await scorer.close()

    return asyncio.run(run())


def test_plain_function_with_options_runs_in_a_worker_in_order():
    spec = {"name": "n", "function": "my_rewards:length", "options": {"scale": 2.0}}
    rows, scorer = score([spec], samples("a", "bbb", ""))
    assert [row["n"].value for row in rows] == [2.0, 6.0, 0.0]
    assert [row["n"].status for row in rows] == [Status.CORRECT, Status.CORRECT, Status.WRONG]
    assert scorer.pool.pids() == []


def test_declared_components_stay_apart_with_their_own_weights():
    spec = {
        "name": "both",
        "function": "my_rewards:two",
        "components": ["same", "short"],
        "weight": {"same": 1.0, "short": 0.1},
    }
    rows, scorer = score([spec], samples("aa", "abcdefg"))
    assert scorer.components == ("same", "short")
    assert scorer.weights == {"same": 1.0, "short": 0.1}
    assert [(r["same"].value, r["short"].value) for r in rows] == [(1.0, 1.0), (0.0, 0.0)]


def test_which_statuses_are_verdicts():
    verdicts = {status for status in Status if status.is_verdict}
    assert verdicts == {Status.CORRECT, Status.WRONG, Status.NO_ANSWER, Status.UNPARSABLE}


def test_a_timeout_that_a_reward_raises_itself_is_its_error():
    async def gives_up(sample):
        raise TimeoutError("the server")

    with pytest.raises(RewardError, match="TimeoutError: the server"):
        score([{"name": "n", "function": gives_up}], samples("a"))


def test_a_class_of_one_component_goes_by_the_name_in_the_config():
    spec = {"name": "c", "function": "my_rewards:Clarity"}
    rows, scorer = score([spec], samples("a"))
    assert (scorer.components, rows[0]["c"].value) == (("c",), 0.5)
    with pytest.raises(RewardError, match=r"returned \['typo'\]: must be exactly .*\['c'\]"):
        score([spec], samples(""))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("my_rewards:wrong_names", "must be exactly the components"),
        ("my_rewards:not_finite", "needs a finite number"),
        ("my_rewards:text", "needs a finite number"),
        ("my_rewards:enormous", r"returned -1e\+300: needs a number of at most 1e\+30 in size"),
        ("my_rewards:forgets_async", "it returned a coroutine: write `async def`"),
        ("my_rewards:yields", "it returned a generator: return a number"),
        ("my_rewards:fails", "KeyError: 'no such column'"),
        ("my_rewards:too_few", "1 scores for 2 samples"),
        ("my_rewards:unpicklable", "does not pickle"),
        ("my_rewards:fails_to_pickle", "does not pickle: sick"),
        ("my_rewards:does_not_unpickle", "does not unpickle: TypeError"),
        ("my_rewards:BrokenImport", "only fails inside a worker"),
    ],
)
def test_a_broken_contract_stops_the_run_at_once(function, message):
    with pytest.raises(RewardError, match=message):
        score([{"name": "x", "function": function}], samples("a", "b"))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"status": "good"}, "(status='good'): allowed correct, wrong, "),
        ({"status": None}, "(status=None): allowed correct, wrong, "),
        ({"components": 1.0}, "(components=1.0): needs a table"),
        ({"detail": "why"}, "(detail='why'): needs a table"),
        ({"seconds": None}, "(seconds=None): needs a number"),
        ({"per_turn": 1.0}, "(per_turn=1.0): needs a number for each turn"),
        ({"per_turn": [None]}, "(per_turn=[None]): needs a number for each turn"),
        ({"per_turn": [math.inf]}, "(per_turn=[inf]): needs a number for each turn"),
    ],
)
def test_a_field_of_a_score_that_is_not_of_its_type_is_named(fields, told):
    async def rates(sample):
        return Score(**({"components": {"x": 1.0}, "status": Status.CORRECT} | fields))

    with pytest.raises(RewardError) as caught:
        score([{"name": "x", "function": rates}], samples("a"))
    assert str(caught.value).startswith(f"reward 'x' returned Score{told}")


def test_a_later_exception_is_recorded_until_the_cap():
    async def run():
        scorer = load_rewards([{"name": "x", "function": "my_rewards:fails_on_bad"}], workers=1)
        try:
            await scorer.score(samples("ok"))
            later = await scorer.score(samples("ok", "bad"))
            with pytest.raises(RewardError, match="2 of 3 samples"):
                await scorer.score(samples("ok", "bad", "bad"))
            return later
        finally:
            await scorer.close()

    ok, bad = (row["x"] for row in asyncio.run(run()))
    assert (ok.value, ok.status) == (1.0, Status.CORRECT)
    assert math.isnan(bad.value)
    assert bad.status is Status.INFRA_ERROR
    assert "user bug" in bad.detail["error"]


def test_a_run_that_is_resumed_excuses_an_exception_as_it_did_before():
    async def run():
        scorer = load_rewards([{"name": "x", "function": "my_rewards:fails_on_bad"}], workers=1)
        scorer.batches = 7  # of the run, before it was resumed
        try:
            return await scorer.score(samples("ok", "bad"))
        finally:
            await scorer.close()

    assert [row["x"].status for row in asyncio.run(run())] == [Status.CORRECT, Status.INFRA_ERROR]


def test_the_first_batch_does_not_excuse_an_exception():
    with pytest.raises(RewardError, match="user bug"):
        score([{"name": "x", "function": "my_rewards:fails_on_bad"}], samples("ok", "bad"))


def test_async_batch_and_class_rewards():
    specs = [
        {"name": "w", "function": "my_rewards:waits"},
        {"name": "b", "function": "my_rewards:batch_of_lengths"},
        {"name": "judge", "function": "my_rewards:Judge", "options": {"bonus": 1.0}},
    ]
    rows, scorer = score(specs, samples("xyz", ""))
    assert scorer.components == ("w", "b", "clear", "kind")
    assert [r["w"].value for r in rows] == [1.0, 0.0]
    assert [r["b"].value for r in rows] == [3.0, 0.0]
    assert (rows[0]["clear"].value, rows[0]["kind"].value) == (2.0, 0.5)
    assert rows[0]["clear"].per_turn == (0.25, 0.75)


def test_gate_zeroes_a_component_and_passes_failures_on():
    gated = {"name": "n", "function": "my_rewards:length", "gate": "correct"}
    exact = {"name": "correct", "function": "exact"}
    rows, _ = score([gated, exact], samples("aa", "bbbb"))
    assert [(r["correct"].value, r["n"].value) for r in rows] == [(1.0, 2.0), (0.0, 0.0)]
    assert rows[1]["n"].detail["gated"] == 4.0
    unreachable = {"name": "correct", "function": "my_rewards:Unreachable"}
    rows, _ = score([gated, unreachable], samples("aa"))
    assert math.isnan(rows[0]["n"].value)
    assert rows[0]["n"].status is Status.INFRA_ERROR


def test_scores_of_other_components_as_data():
    specs = [
        {"name": "late", "function": "my_rewards:relative"},
        {"name": "base", "function": "my_rewards:length"},
    ]
    rows, scorer = score(specs, samples("ab"))
    assert scorer.components == ("late", "base")
    assert rows[0]["late"].value == 20.0


def test_a_timeout_marks_only_its_sample_and_raises_the_alarm():
    alarms = []

    async def run():
        spec = {"name": "x", "function": "my_rewards:behaves"}
        scorer = load_rewards([spec], workers=2, deadline_s=0.5, on_alarm=alarms.append)
        try:
            rows = await scorer.score(samples("a", "hang", "ccc"))
            return rows, scorer.statistics["x"], scorer.metrics()
        finally:
            await scorer.close()

    rows, statistics, metrics = asyncio.run(run())
    assert [r["x"].status for r in rows] == [Status.CORRECT, Status.TIMEOUT, Status.CORRECT]
    assert math.isnan(rows[1]["x"].value)
    # verdicts 1 and 3: mean 2, population std 1; one of three timed out
    assert (statistics.mean, statistics.std) == (2.0, 1.0)
    assert statistics.valid_frac == pytest.approx(2 / 3)
    assert metrics["reward/x/timeout_frac"] == pytest.approx(1 / 3)
    assert [alarm.kind for alarm in alarms] == ["timeouts"]


def test_constant_scores_raise_an_alarm():
    alarms = []

    async def run():
        scorer = load_rewards([{"name": "e", "function": "exact"}], on_alarm=alarms.append)
        await scorer.score(samples("aa", "aa"))
        await scorer.close()
        return scorer.examples("e", Status.CORRECT)

    assert len(asyncio.run(run())) == 2
    assert [(a.component, a.kind) for a in alarms] == [("e", "constant")]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([], "at least one reward"),
        ([{"name": "x", "function": "boxed_exakt"}], "did you mean 'boxed_exact'"),
        ([{"name": "x", "function": "my_rewards:lenth"}], "did you mean 'length'"),
        ([{"name": "x", "function": "no_such_module:f"}], "no module named 'no_such_module'"),
        ([{"name": "x", "function": "exact", "wieght": 1}], "did you mean 'weight'"),
        ([{"name": "x", "function": "exact", "weight": math.nan}], "finite number"),
        ([{"name": "x", "function": "my_rewards:length", "options": {"scal": 1}}], "'scale'"),
        (
            [{"name": "x", "function": "my_rewards:length", "options": {"scale": "big"}}],
            r"^rewards\.x\.options\.scale = 'big' \(str\): length takes float",
        ),
        (
            [{"name": "x", "function": "tool_calls", "options": {"needless_calls": "no"}}],
            r"^rewards\.x\.options\.needless_calls = 'no' .*one of \['ignore', 'penalise'\]",
        ),
        ([{"name": "x", "function": "./none.py:f"}], r"\.function = '\./none\.py:f': no such file"),
        (
            [{"name": "x", "function": "regex"}],
            r"rewards\.x\.options\.pattern: Regex needs a value",
        ),
        ([{"name": "x", "function": "exact"}] * 2, "appears 2 times"),
        ([{"name": "x", "function": "exact", "gate": "y"}], "gate = 'y'"),
        ([{"name": "x", "function": "exact", "deadline_s": 0}], "above 0"),
        ([{"name": "x", "function": "exact", "weight": {"z": 1.0}}], "components are"),
    ],
)
def test_bad_specs_are_named_before_anything_starts(specs, message):
    with pytest.raises(InputError, match=message):
        load_rewards(specs)


def test_what_no_worker_can_import_is_sent_by_value():
    bonus = 0.5

    def f(completion):
        return len(completion) + bonus

    class Counts:
        def __init__(self, letter):
            self.letter = letter

        def __call__(self, completion):
            return completion.count(self.letter)

    rewards = {"f": f, "twice": lambda sample: 2 * f(sample.completion), "made": Counts("a")}
    specs = [{"name": name, "function": function} for name, function in rewards.items()]
    specs.append({"name": "class", "function": Counts, "options": {"letter": "b"}})
    rows, _ = score(specs, samples("aa", "abb"))
    values = [{name: score.value for name, score in row.items()} for row in rows]
    assert values == [
        {"f": 2.5, "twice": 5.0, "made": 2.0, "class": 0.0},
        {"f": 3.5, "twice": 7.0, "made": 1.0, "class": 2.0},
    ]


def test_a_sample_reaches_a_worker_with_the_tensors_it_holds():
    batch = [Sample(id="1", group="g", completion="", token_ids=torch.tensor([5, 7]))]
    spec = {"name": "x", "function": lambda token_ids: int(sum(token_ids))}
    assert score([spec], batch)[0][0]["x"].value == 12.0


def test_what_cannot_be_sent_to_a_worker_is_named():
    lock = threading.Lock()

    def mine(completion):
        with lock:
            return 1.0

    message = r"^reward 'x' cannot be sent to another process: it holds lock \(a _thread.lock\)$"
    with pytest.raises(InputError, match=message):
        load_rewards([{"name": "x", "function": mine}])


def test_environment_rewards_are_handed_on():
    batch = [
        Sample(id="1", group="g", completion="", meta={"r": 0.5}, turns=[{"r": 0.2}, {"tool": "x"}])
    ]
    rows, _ = score([{"name": "env", "function": "given", "options": {"key": "r"}}], batch)
    assert rows[0]["env"].value == 0.5
    assert rows[0]["env"].per_turn is not None
    assert rows[0]["env"].per_turn[0] == 0.2
    assert math.isnan(rows[0]["env"].per_turn[1])


def test_a_batch_may_take_as_long_as_its_samples_one_by_one():
    # 64 coroutines go at once, so 65 samples are two rounds of 0.4 s: 0.6 s fit in 0.8 s
    spec = {
        "name": "x",
        "function": "my_rewards:batch_that_takes",
        "options": {"seconds": 0.6},
        "deadline_s": 0.4,
    }
    rows, _ = score([spec], samples(*"a" * 65))
    assert {row["x"].status for row in rows} == {Status.CORRECT}
    with pytest.raises(RewardError, match=r"'x': all 64 samples passed deadline_s = 0\.4; raise"):
        score([spec], samples(*"a" * 64))


def test_a_reward_that_fails_to_close_keeps_no_worker_alive():
    async def run():
        specs = [
            {"name": "bad", "function": "my_rewards:ClosesBadly"},
            {"name": "n", "function": "my_rewards:length"},
        ]
        alarms = []
        scorer = load_rewards(specs, workers=1, on_alarm=alarms.append)
        await scorer.score(samples("a"))
        workers = scorer.pool.pids()
        await scorer.close()
        return workers, scorer.pool.pids(), [a.message for a in alarms if a.kind == "close"]

    before, after, [told] = asyncio.run(run())
    assert (len(before), after) == (1, [])
    assert told.startswith("its close() failed: RuntimeError: cannot close")


IN_A_FILE = """
class Grade(float):
    "Comes back from the worker as this very class."

def length(sample, *, scale=1.0):
    return Grade(scale * len(sample.completion))

def fails(sample):
    return 1 / 0

class FailsInAWorker:
    def __init__(self):
        import os
        if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
            raise RuntimeError("not\\nhere")

    def __call__(self, sample):
        return 1.0
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    (tmp_path / "rewards.py").write_text(IN_A_FILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "rewards.py"


def test_a_file_of_rewards_works_in_workers_wherever_they_run(file, tmp_path_factory, monkeypatch):
    async def run():
        scorer = load_rewards([{"name": "n", "function": "./rewards.py:length"}], workers=1)
        monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
        try:
            return await scorer.score(samples("a", "bbb"))
        finally:
            await scorer.close()

    assert [row["n"].value for row in asyncio.run(run())] == [1.0, 3.0]


def test_the_users_rewards_module_is_theirs_in_a_worker_too(file, monkeypatch):
    monkeypatch.syspath_prepend(file.parent)
    monkeypatch.delitem(sys.modules, "rewards", raising=False)
    rows, _ = score([{"name": "n", "function": "rewards:length"}], samples("abc"))
    assert rows[0]["n"].value == 3.0


def test_an_object_of_a_class_in_a_file_comes_back_as_that_class(file):
    reference = f"{file}:length"
    grade = load_object(reference, "w").__globals__["Grade"]

    async def run():
        pool = WorkerPool(1)
        try:
            return await pool.map(pool.register(reference), samples("abc"))
        finally:
            pool.close()

    [outcome] = asyncio.run(run())
    assert (outcome.kind, type(outcome.value)) == ("ok", grade)


@pytest.mark.parametrize(
    ("name", "error", "line"),
    [
        ("fails", "ZeroDivisionError: division by zero", 9),
        ("FailsInAWorker", "RuntimeError: not here", 15),
    ],
)
def test_code_in_a_file_that_fails_in_a_worker_is_told_in_one_line(file, name, error, line):
    with pytest.raises(RewardError) as told:
        score([{"name": "n", "function": f"rewards.py:{name}"}], samples("abc"))
    assert str(told.value).endswith(f"{error} ({file}, line {line})")
    assert "\n" not in str(told.value)


def only_long(sample):
    """Does not apply to an empty completion; its second component only to long ones."""
    if not sample.completion:
        return None
    long = len(sample.completion) > 2
    return {"first": 1.0, "second": 0.5 if long else None}


def test_none_means_that_a_reward_or_a_component_does_not_apply():
    alarms = []
    spec = {"name": "x", "function": only_long, "components": ["first", "second"]}

    async def run():
        scorer = load_rewards([spec], workers=1, on_alarm=alarms.append)
        try:
            return await scorer.score(samples("", "ab", "abc", "abcd")), scorer.metrics()
        finally:
            await scorer.close()

    rows, metrics = asyncio.run(run())
    statuses = [[str(row[c].status) for c in ("first", "second")] for row in rows]
    assert statuses[:2] == [["not_applicable"] * 2, ["correct", "not_applicable"]]
    assert [row["second"].value for row in rows[2:]] == [0.5, 0.5]
    # of 4 scores of `second` 2 apply, both are 0.5
    assert metrics["reward/second/mean"] == 0.5
    assert metrics["reward/second/valid_frac"] == 1.0
    assert metrics["reward/second/not_applicable_frac"] == 0.5
    assert [(a.component, a.kind) for a in alarms] == [
        ("first", "constant"),
        ("second", "constant"),
    ]


def test_rows_choose_the_samples_that_a_reward_sees():
    specs = [
        {"name": "n", "function": "my_rewards:length", "rows": {"source": ["a", "b"], "level": 1}},
        {"name": "m", "function": "exact", "rows": {"source": "c"}},
        {"name": "after", "function": "my_rewards:length", "gate": "m"},
    ]
    metas = [{"source": "a", "level": 1}, {"source": "b", "level": 2}, {"source": "c"}]
    batch = [
        Sample(id=str(i), group="g", completion="aa", gold="aa", meta=meta)
        for i, meta in enumerate(metas)
    ]
    rows, scorer = score(specs, batch)
    values = [[row[c].value for c in ("n", "m", "after")] for row in rows]
    assert [[None if math.isnan(v) else v for v in row] for row in values] == [
        [2.0, None, None],
        [None, None, None],
        [None, 1.0, 2.0],
    ]
    assert {row["m"].status for row in rows[:2]} == {Status.NOT_APPLICABLE}
    # `after`, which is for all rows and not the first, decides nothing
    verdicts = [scorer.verdict(row) for row in rows]
    assert [None if math.isnan(v) else v for v in verdicts] == [1.0, None, 1.0]
    assert [scorer.grades(meta) for meta in metas] == [True, False, True]
    assert [scorer.applies(meta) for meta in metas] == [True, True, True]  # `after` is for all


def test_golds_are_audited_where_a_reward_reads_them_as_mathematics():
    specs = [{"name": "m", "function": "math", "rows": {"source": "a"}}]
    specs.append({"name": "c", "function": "exact", "rows": {"source": "b"}})
    scorer = load_rewards(specs)
    assert [scorer.audits({"source": s}) for s in "ab"] == [True, False]
    assert load_rewards(specs[1:]).audits({"source": "a"})
