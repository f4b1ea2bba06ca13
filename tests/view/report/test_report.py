"""`Report`: what it gathers, what it refuses, the sample of a large data set, and the file for Embedding Atlas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

from lightning_easiness import EasinessRecord, Hardest, LabelIssues, Report, find_label_issues
from lightning_easiness.scores import SCORES
from lightning_easiness.view.report import charts, findings
from lightning_easiness.view.report import report as report_module
from lightning_easiness.view.report.columns import score_columns
from lightning_easiness.view.report.report import sample
from tests.labels.test_find import N
from tests.made_runs import NUM_EXAMPLES, make_scores, write_run
from tests.record.test_held_out import write as write_held_out
from tests.view.report.conftest import Pictures


def test_the_same_record_gives_the_same_page(report: Report, record: EasinessRecord, issues: LabelIssues) -> None:
    again = Report.of(record, issues, dataset=Pictures(), title=report.title, notes=report.notes)
    assert again.to_html() == report.to_html()


def test_what_is_of_other_data_is_refused(record: EasinessRecord, issues: LabelIssues, tmp_path: Path) -> None:
    write_run(tmp_path, 0)
    other = EasinessRecord.load(tmp_path)
    with pytest.raises(ValueError, match=r"`issues` of Report and its `record` are not of the same data"):
        Report.of(other, issues)
    moved = replace(issues, given=(issues.given + 1) % 3)
    with pytest.raises(ValueError, match=r"`issues` of Report and its `record` are not of the same data"):
        Report.of(record, moved)
    with pytest.raises(ValueError, match=r"its `dynamics` are not of the same data"):
        Report.of(record, dynamics=other)
    with pytest.raises(ValueError, match="`dataset` of Report"):
        Report.of(record, dataset=range(3))
    with pytest.raises(ValueError, match="`class_names` must name the labels 0 to 2"):
        Report.of(record, class_names=["one"])


def test_pictures_are_of_the_suspects_and_the_extremes_first(report: Report, issues: LabelIssues) -> None:
    order = report.picture_order()
    assert sorted(order) == list(range(N))
    scores = report.scores
    assert {int(issues.index[0]), int(scores.hardest(0.1)[0]), int(scores.easiest(0.1)[0])} <= set(order[:6])


def test_a_page_is_never_larger_than_five_megabytes_for_its_pictures(
    record: EasinessRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = torch.randint(0, 256, (N, 3, 64, 64), dtype=torch.uint8)
    whole = len(Report.of(record, dataset=noise).to_html().encode())
    monkeypatch.setattr(report_module, "_PAGE_BYTES", whole - 20_000)
    page = Report.of(record, dataset=noise).to_html()
    assert len(page.encode()) < whole - 18_000
    assert "The file holds the pictures of" in page


def test_a_sample_holds_the_suspects_and_the_hardest_and_is_spread_over_the_rest() -> None:
    size = 120_000
    values = torch.rand(size, generator=torch.Generator().manual_seed(0))
    scores = make_scores(values.tolist(), higher_is_easier=False)
    found = score_columns(scores)
    suspects = torch.randperm(size, generator=torch.Generator().manual_seed(1))[:3000].numpy()
    found["suspect"] = np.zeros(size, dtype=bool)
    found["suspect"][suspects] = True
    found["suspicion"] = np.zeros(size, dtype=np.int64)
    found["suspicion"][suspects] = np.arange(1, 3001)
    rows = sample(found, scores)
    assert len(rows) == 50_000
    assert (np.diff(rows) > 0).all()
    assert set(suspects.tolist()) <= set(rows.tolist())
    assert set(scores.hardest(10_000 / size).tolist()) <= set(rows.tolist())
    between = (found["rank"][rows] > 10_000) & (found["rank"][rows] < 110_000)
    assert np.corrcoef(rows[between], found["score"][rows][between])[0, 1] == pytest.approx(0, abs=0.02)
    assert found["score"][rows][between].mean() == pytest.approx(0.5, abs=0.02)
    assert (sample(found, scores) == rows).all()
    assert len(sample(score_columns(make_scores([0.0] * 100_000)), make_scores([0.0] * 100_000))) == 100_000


def test_a_page_of_a_sample_says_so_and_counts_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_run(tmp_path, 0)
    monkeypatch.setattr(report_module, "_MOST_EXAMPLES", 20)
    monkeypatch.setattr(report_module, "_SAMPLE", 10)
    found = Report.of(EasinessRecord.load(tmp_path))
    page = found.to_html()
    assert len(found.rows) == 10
    assert f"The map and the table show 10 of {NUM_EXAMPLES} examples" in page
    assert sum(charts.histogram_chart(found.scores, found.columns)["counts"]["all"]) == NUM_EXAMPLES


def test_the_file_for_embedding_atlas_holds_every_example(report: Report, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    command = report.to_atlas(tmp_path / "atlas" / "all.parquet")
    table = pandas.read_parquet(tmp_path / "atlas" / "all.parquet")
    assert table["example"].tolist() == list(range(N))
    assert np.allclose(table["confidence"], report.columns["confidence"])
    suspects = report.columns["suspect"]
    assert (table["suggested"].notna() == suspects).all()
    assert table["suggested"][suspects].tolist() == report.columns["suggested"][suspects].tolist()
    assert command.split()[:2] == ["embedding-atlas", str(tmp_path / "atlas" / "all.parquet")]


def test_without_a_data_map_the_atlas_has_the_score_and_its_spread(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    write_run(tmp_path / "record", 0, steps=(10,))
    command = Report.of(EasinessRecord.load(tmp_path / "record")).to_atlas(tmp_path / "all.parquet")
    assert "--x score --y spread" in command


# ------------------------------------------------------------------ sentences


def test_the_headline_counts_the_suspects(tmp_path: Path, issues: LabelIssues, report: Report) -> None:
    assert findings.headline(report.columns, 3) == f"{len(issues.flagged)} of {N} labels look wrong"
    found = {"score": np.zeros(4), "suspect": np.zeros(4, dtype=bool)}
    assert findings.headline(found, 1) == "None of 4 labels looks wrong"
    found = {"score": np.zeros(4), "runs_right": np.array([2, 2, 2, 1])}
    assert findings.headline(found, 2) == "75 % of 4 examples are predicted right in every run"
    assert findings.headline({"score": np.zeros(4)}, 2) == "4 examples, from easy to hard"


def memorization_record(folder: Path, held_out: list[list[bool]], num_classes: int | None = 2) -> EasinessRecord:
    """Runs that hold out (R, N)."""
    size = len(held_out[0])
    fields = {"loss": torch.ones(size), "correct": torch.ones(size, dtype=torch.bool)}
    for seed, out in enumerate(map(torch.tensor, held_out)):
        write_run(folder, seed, steps=(1,), fields=fields, held_out=out, num_classes=num_classes, target=None)
    return EasinessRecord.load(folder)


def test_memorization_is_stated_beside_what_chance_gives_and_the_number_of_runs(tmp_path: Path) -> None:
    values = np.array([1.0, 0.5, 0.49, np.nan, -0.5], dtype=np.float32)
    out = [[True, False, True, False, True], [False, True, False, False, True], [False, False, False, True, False]]
    record = memorization_record(tmp_path / "a", out)
    finding = findings.memorization_finding({"memorization": values}, record)
    assert finding is not None
    assert finding["title"] == "50 % of the examples look memorized, and about 25 % would by chance"
    assert "left out of training by 1 to 2 runs, so that little is known of a single one." in finding["text"]
    often = memorization_record(tmp_path / "b", [[True] * 5] * 3 + [[False, False, False, True, False]])
    finding = findings.memorization_finding({"memorization": values}, often)
    assert finding is not None
    assert finding["text"].endswith("Each example was left out of training by 3 runs.")
    chart: dict[str, Any] = charts.memorization_chart(values)
    assert sum(chart["counts"]["all"]) == 4
    assert chart["edges"][0] <= -0.3
    assert findings.memorization_finding({"memorization": values[3:4]}, record) is None


def test_memorization_is_not_counted_where_examples_have_no_single_class(tmp_path: Path) -> None:
    record = memorization_record(tmp_path, [[True, False], [False, True]], num_classes=None)
    finding = findings.memorization_finding({"memorization": np.zeros(2)}, record)
    assert finding is not None
    assert "%" not in finding["title"]
    assert "generalization_gap" in finding["text"]


def test_what_more_checkpoints_cannot_give_is_not_advised(tmp_path: Path) -> None:
    write_run(tmp_path, 0, steps=(1, 2), loss_name="mean_cross_entropy", num_classes=None)
    record = EasinessRecord.load(tmp_path)
    for page in (Report.of(record), Report.of(record, score="area_under_margin")):
        found = page._content()["findings"]
        assert found["map"]["text"].endswith("the recorded loss is 'mean_cross_entropy'.")
        assert "every_n_epochs" not in found["curves"]["text"]
    assert found["curves"]["text"] == "There is no area under margin of each checkpoint."
    html = Report.of(record, issues=find_label_issues(record, score="margin")).to_html()
    assert "probabilities=True" not in html


def test_curves_of_another_series_say_so(tmp_path: Path) -> None:
    write_run(tmp_path, 0)
    write_run(tmp_path, 0, series="train-online")
    record, online = EasinessRecord.load(tmp_path), EasinessRecord.load(tmp_path, "train-online")
    sentence = "All of this is of series train-online; the scores on this page are of series train-probe."
    assert sentence in Report.of(record, dynamics=online)._content()["findings"]["curves"]["text"]
    assert "series" not in Report.of(record)._content()["findings"]["curves"]["text"]


def test_issues_of_one_rule_are_explained_on_the_page(record: EasinessRecord, tmp_path: Path) -> None:
    found = find_label_issues(record.score("margin"), Hardest(5))
    assert "5 of 60 labels look wrong" in Report.of(record, found).to_html()


@pytest.mark.parametrize(
    ("share", "interval", "words"),
    [
        (float("nan"), (float("nan"),) * 2, "13.3 % of the labels"),
        (0.1, (float("nan"),) * 2, "estimated wrong: 10 %"),
        (0.1, (0.05, 0.2), "estimated wrong: 10 % (5 % to 20 %)"),
    ],
)
def test_the_overview_says_how_many_labels_are_estimated_wrong(
    issues: LabelIssues, share: float, interval: tuple[float, float], words: str
) -> None:
    assert findings.estimate_of(replace(issues, estimated_share=share, estimated_interval=interval)) == words


def test_a_page_compares_as_many_runs_as_it_has_room_for(
    record: EasinessRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "has room to compare" not in Report.of(record).to_html()
    monkeypatch.setattr(report_module, "_MOST_STANDINGS", 2 * N)
    assert "has room to compare 2 of the 3 runs" in Report.of(record).to_html()


def test_reading_pictures_leaves_the_random_generators_as_they_were(record: EasinessRecord) -> None:
    class Augmented(Pictures):
        def __init__(self) -> None:
            self.generator = torch.Generator().manual_seed(0)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.rand(8, 8) + torch.rand(8, 8, generator=self.generator), 0

    dataset = Augmented()
    before = torch.get_rng_state(), dataset.generator.get_state()
    Report.of(record, dataset=dataset).to_html()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(dataset.generator.get_state(), before[1])


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("score", [name for name, each in SCORES.items() if each.needs != ("count",)])
def test_any_score_can_order_the_page(score: str, tmp_path: Path) -> None:
    record = EasinessRecord.load(write_held_out(tmp_path, 0, 1, 2))
    found = Report.of(record, score=score)
    assert found.scores.name == score
    assert "Seeds: what is chance?" in found.to_html()
