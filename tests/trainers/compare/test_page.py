import json

from rlnorm.trainers.compare.page import write_reports
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
