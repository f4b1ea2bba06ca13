"""A browser that the tests of the page share, and a report for them to look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_easiness import EasinessRecord, LabelIssues, Report, find_label_issues
from tests.labels.test_find import TARGET, WRONG, K, N
from tests.labels.test_find import write as write_labelled
from tests.made_runs import write_run
from tests.view.report.browser import Browser, chromium

HOSTILE = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>&amp;"


class Pictures:
    """An image for each example, and class names that try to be HTML."""

    classes = ("plain", HOSTILE, "</script><b>bold</b>")

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(index)), int(TARGET[index])


def write_record(folder: Path, runs: int = 3) -> EasinessRecord:
    """Runs with label errors, whose loss falls over three checkpoints."""
    for seed in range(runs):
        write_labelled(folder, seed)
        generator = torch.Generator().manual_seed(seed)
        for epoch, step in enumerate((10, 20, 30)):
            loss = torch.rand(N, generator=generator) * (3 - epoch) + 0.01
            fields = {"loss": loss, "correct": loss < 0.7, "margin": 1 - loss}
            about: dict[str, Any] = {"target": TARGET, "num_classes": 3, "num_examples": N, "fields": fields}
            write_run(folder, seed, steps=(step,), complete=epoch == 2, **about)
    return EasinessRecord.load(folder, "train-probe")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> EasinessRecord:
    return write_record(tmp_path_factory.mktemp("report") / "record")


@pytest.fixture(scope="session")
def issues(record: EasinessRecord, tmp_path_factory: pytest.TempPathFactory) -> LabelIssues:
    folder = tmp_path_factory.mktemp("issues")
    record.save(folder)
    for seed in range(3):
        write_labelled(folder, seed)
    true = TARGET.clone()
    true[WRONG] = (TARGET[WRONG] + 1) % K
    probabilities = torch.full((N, K), 0.05).scatter(1, true[:, None], 0.9)
    return find_label_issues(folder, probabilities=probabilities)


@pytest.fixture(scope="session")
def report(record: EasinessRecord, issues: LabelIssues) -> Report:
    return Report.of(record, issues, dataset=Pictures(), title=f"Made up {HOSTILE}", notes=[HOSTILE])


@pytest.fixture(scope="session")
def page(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.save(tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture
def shown(browser: Browser, page: Path) -> Browser:
    """The page, as if opened for the first time."""
    browser.events.clear()
    browser.show()
    browser.open(page)
    browser.run("localStorage.clear()")
    browser.open(page)
    return browser
