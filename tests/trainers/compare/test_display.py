from rlnorm.trainers.compare.display import PIPE_WIDTH, CompareDisplay
from rlnorm.trainers.compare.runs import plan_comparison


def test_a_pipe_gets_one_line_a_run(tmp_path, config_for, capsys):
    comparison = plan_comparison(config_for(tmp_path), ["grpo", "gdpo"], 1, "grpo")
    one, two = comparison.runs()
    with CompareDisplay(comparison) as display:
        assert display.console.width == PIPE_WIDTH
        display.start(one)
        display.step(one, 3)
        display.done(1)
        display.start(two)
    assert capsys.readouterr().out.splitlines() == [f"run 1/2: {one.name}", f"run 2/2: {two.name}"]


def test_the_bar_counts_the_steps_of_all_runs(tmp_path, config_for):
    comparison = plan_comparison(config_for(tmp_path), ["grpo", "gdpo"], 1, "grpo")
    display = CompareDisplay(comparison)
    one, two = comparison.runs()
    everything = display._progress.tasks[0]
    assert everything.total == 2 * 4  # steps
    display.step(one, 3)
    assert everything.completed == 3
    display.done(1)
    display.step(two, 1)
    assert everything.completed == 4 + 1
    display.step(two, -1)  # before its first step
    assert everything.completed == 4
