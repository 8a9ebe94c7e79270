import json
from dataclasses import replace

from plotly.offline import get_plotlyjs

from rlnorm.trainers.compare.page import comparison_page, write_reports
from rlnorm.trainers.compare.results import collect_results
from rlnorm.trainers.compare.runs import Outcome


def test_reports_say_the_words_and_hold_the_numbers(written, tmp_path):
    comparison, runs = written
    results = collect_results(comparison, Outcome(finished=runs))
    page = write_reports(results, tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    entry = summary["benchmarks"]["chain"]["algorithms"]["gdpo"]
    assert entry["sampled"]["against_baseline"]["difference"] == 0.5
    assert entry["judgement"]["verdict"] == "better"
    assert summary["definitions"]["gdpo"]["estimator"]["name"] == "gdpo"
    markdown = (tmp_path / "out" / "summary.md").read_text()
    assert "| gdpo | 87.5 ± 0.0 |" in markdown
    assert "+50.0" in markdown
    assert "2 seeds are very few" in markdown
    text = page.read_text()
    for part in ("better", "+50.0", "Entropy while training", "gdpo(weights="):
        assert part in text
    assert "cdn" not in text.split("</script>", 1)[1]


def test_the_page_shows_markup_in_a_run_name_or_config_as_text(written):
    comparison, runs = written
    results = collect_results(comparison, Outcome(finished=runs))
    evil = "</script><script>alert(1)</script>"
    data = comparison.config.data.model_copy(update={"system_prompt": evil})
    config = comparison.config.model_copy(update={"run_name": evil, "data": data})
    page = comparison_page(replace(results, comparison=replace(comparison, config=config)))
    assert evil not in page
    # the name in title, heading and config, the system prompt in the config
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 4
    assert "//" not in page.replace(get_plotlyjs(), "")
