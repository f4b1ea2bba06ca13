"""README.md and docs/ say what is so: each block of code runs, each name exists, each link leads somewhere.

A page is a folder: its files (blocks with a title) are written, then its blocks run in order, each in a namespace of
its own, with what stands for the reader's: a module, data, loaders, and folders that were recorded.
"""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning.pytorch.cli
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, Dataset

import lightning_easiness
from lightning_easiness import EasinessCallback, functional, repeat_fit
from lightning_easiness.cli.commands import COMMANDS
from lightning_easiness.cli.main import main
from lightning_easiness.data.decisions import FORMAT, VERSION
from lightning_easiness.record.files import FIELDS
from lightning_easiness.scores import SCORES
from tests.small import QUIET, Net, loader, trainer

ROOT = Path(__file__).parents[1]
PAGES = {path.relative_to(ROOT).as_posix(): path for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]}
README_FILES = [path for top in ("examples", "lightning_easiness") for path in sorted((ROOT / top).rglob("README.md"))]
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', flags=re.DOTALL | re.MULTILINE)
LESS = {"range(10)": "range(4)", "max_epochs=8": "max_epochs=2"}  # seeds and epochs, so that the tests are quick
NOT_RUN = re.compile(r"(\.venv/bin/)?(pip|python3|mkdocs|python examples/\S+) |#")  # of a shell: installation and jobs
MADE = {  # what a page leaves behind
    "README.md": {"watched-once", "ten-seeds", "scores.csv", "report.html"},
    "docs/start.md": {"watched-once", "ten-seeds", "scores.csv", "hardest.png", "averages.png", "report.html"},
    "docs/study.md": {
        "networks.csv",
        "networks.png",
        "curves.csv",
        "curves.png",
        "easiness-of-val",
        "finished",
        "patterns",
        "patterns.png",
    },
    "docs/walk.md": {"digits-runs", "report.html"},
    "docs/lightning-cli.md": {"runs", "runs-set", "issues.csv"},
    "docs/command-line.md": {"hardest.csv", "kept.npy", "issues.csv", "figures", "report.html"},
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str | None
    code: str
    line: int


def blocks_of(page: str) -> list[Block]:
    text = PAGES[page].read_text()
    for written, less in LESS.items():
        text = text.replace(written, less)
    return [Block(*match.groups(), text[: match.start()].count("\n") + 2) for match in FENCE.finditer(text)]


class Pictures(Dataset[Any]):
    def __len__(self) -> int:
        return 53

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(index)), index % 4


class YourModule(Net):
    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.net[-1] = torch.nn.Linear(16, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x[:, 0, 0])


class YourData(LightningDataModule):
    def train_dataloader(self) -> DataLoader[Any]:
        return loader(Pictures())

    def val_dataloader(self) -> DataLoader[Any]:
        return loader(Pictures(), shuffle=False)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders that pages read without having recorded them."""
    folder = tmp_path_factory.mktemp("recorded")
    watches = {
        "easiness": EasinessCallback(folder / "easiness", every_n_epochs=1),
        "watched": EasinessCallback(folder / "watched", probe=None, probabilities=True),
    }
    for name, watch in watches.items():
        trainer(callbacks=[watch], max_epochs=3).fit(YourModule(), loader(Pictures()))
        assert (folder / name).is_dir()
    repeat_fit(trainer, YourModule, loader(Pictures()), range(4), folder / "easiness-10", progress=False)
    shutil.copytree(folder / "easiness-10", folder / "easiness-wide")
    return folder


def write_decisions(folder: Path, labels: list[int]) -> None:
    """What a page of `Report` would save: one example dropped, one relabelled."""
    rows = [{"example": 2, "decision": "drop"}, {"example": 5, "decision": "relabel", "label": 0}]
    rows = [{**row, "given": labels[row["example"]]} for row in rows]
    content = {"format": FORMAT, "version": VERSION, "num_examples": len(labels), "num_classes": max(labels) + 1}
    (folder / "decisions.json").write_text(json.dumps({**content, "decisions": rows}))


def quiet_trainer(**options: Any) -> Trainer:
    """A Trainer for small data, which saves checkpoints where it is told to."""
    saves = any(isinstance(callback, ModelCheckpoint) for callback in options.get("callbacks", ()))
    return trainer(**{"enable_checkpointing": saves, **options})


@pytest.fixture
def folder(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project of the reader's: what was recorded, Trainers for small data, and `your_package`."""
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
    for name in lightning_easiness.__all__:  # loaded now, with the real Trainer in their annotations
        getattr(lightning_easiness, name)
    package = ModuleType("your_package")
    package.YourModule, package.YourData = YourModule, YourData  # type: ignore[attr-defined]
    defaults = {name: value for name, value in QUIET.items() if name != "max_epochs"}
    quiet = partial(lightning.pytorch.cli.LightningCLI, trainer_defaults=defaults, save_config_callback=None)
    monkeypatch.setattr("lightning.pytorch.cli.LightningCLI", quiet)
    monkeypatch.setattr("lightning.pytorch.Trainer", quiet_trainer)
    monkeypatch.setitem(sys.modules, "your_package", package)
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # of what LightningCLI calls
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")  # so that what LightningCLI sets is undone
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    write_decisions(tmp_path, [label for _, label in map(Pictures().__getitem__, range(53))])
    scores = dict(SCORES)
    yield tmp_path
    SCORES.clear()
    SCORES.update(scores)
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


def names() -> dict[str, Any]:
    """What stands for the reader's own."""
    data = {"your_dataset": Pictures(), "your_loader": loader(Pictures()), "YourModule": YourModule}
    return {**data, "your_val_loader": loader(Pictures(), shuffle=False), "__name__": "__main__"}


def run_python(page: str, block: Block) -> None:
    code = "\n" * (block.line - 1) + block.code  # so that a traceback names the line of the page
    exec(compile(code, page, "exec"), names())


def run_command(line: str, patch: pytest.MonkeyPatch) -> None:
    if not line.strip() or NOT_RUN.match(line):
        return
    program, *arguments = shlex.split(line, comments=True)
    if program == "lightning-easiness":
        assert main(arguments) == 0, line
    else:
        assert program == "python", f"{line}: neither run nor known as one that is not"
        arguments = ["0" if each.startswith("$") else each for each in arguments]
        with patch.context() as patched:
            patched.setattr(sys, "argv", arguments)
            script = str(Path(arguments[0]).absolute())  # for processes that it starts
            runpy.run_path(script, {**names(), "__name__": None}, "__main__")


def run_block(page: str, block: Block, patch: pytest.MonkeyPatch) -> None:
    if block.language == "python" and block.title is None:
        run_python(page, block)
    elif block.language == "bash":
        for line in block.code.replace("\\\n", " ").splitlines():
            run_command(line, patch)
    elif block.language == "json":
        json.loads(block.code)


@pytest.mark.filterwarnings("ignore:The threshold, percentile:UserWarning")  # 53 examples are few for that protocol
@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)])
def test_every_block_runs(
    page: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = blocks_of(page)
    for block in blocks:
        if block.title is not None:
            (folder / block.title).write_text(block.code)
    if page == "docs/walk.md":
        made = runpy.run_path("digits.py")["make_dataset"]()
        write_decisions(folder, [int(label) for _, label in made])
    for block in blocks:
        run_block(page, block, monkeypatch)
    commands = "\n".join(block.code for block in blocks if block.language == "bash")
    used = commands + "\n".join(block.code for block in blocks if block.title)
    for title in (block.title for block in blocks if block.title):
        assert title in commands or f"from {Path(title).stem} import" in used, f"{title} is run by no command"
    assert {path.name for path in folder.iterdir()} >= MADE.get(page, set())


def test_the_readme_is_short() -> None:
    assert len(PAGES["README.md"].read_text().splitlines()) <= 130


@pytest.mark.parametrize("name", SCORES)
def test_every_score_is_in_its_table_with_its_direction(name: str) -> None:
    row = re.search(rf"^\| `{name}` \|.*$", PAGES["docs/scores.md"].read_text(), flags=re.MULTILINE)
    assert row is not None
    assert row.group().split("|")[4].strip() == ("high" if SCORES[name].higher_is_easier else "low")


def test_every_public_name_is_in_the_api_once() -> None:
    text = "\n".join(path.read_text() for name, path in PAGES.items() if name.startswith("docs/api/"))
    documented = re.findall(r"^::: lightning_easiness\.([\w.]+)$", text, flags=re.MULTILINE)
    documented = [re.sub(r"(\w+)\.\1$", r"\1", name) for name in documented]  # a function in a module of its name
    of_functional = [f"functional.{name}" for name in functional.__all__]
    public = [name for name in lightning_easiness.__all__ if name != "__version__"]
    assert sorted(documented) == sorted([*public, *of_functional])


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    named = [name for name in re.findall(r"[\w/-]+\.md", navigation) if not name.startswith("examples/")]
    assert sorted(named) == sorted(name.removeprefix("docs/") for name in PAGES if name.startswith("docs/"))


def test_the_format_of_every_file_is_written_down(recorded: Path) -> None:
    text = PAGES["docs/file-format.md"].read_text()
    missing = [name for name in FIELDS if f"| `{name}` |" not in text]
    found = {re.sub(r"\d{12}", "000000000120", path.name) for path in recorded.rglob("*.*") if path.is_file()}
    assert not missing + sorted(name for name in found if not name.startswith(".") and name not in text)


def test_every_command_is_written_down() -> None:
    text = PAGES["docs/command-line.md"].read_text()
    assert not [name for name in COMMANDS if f"| `{name}` |" not in text or f"lightning-easiness {name} " not in text]


def rows_of_tables(text: str) -> Iterator[tuple[str, str]]:
    """Return each row of each table after its header."""
    header = ""
    for line in FENCE.sub("", text).splitlines():
        if not line.startswith("|"):
            header = ""
        elif header:
            yield header, line
        header = header or (line if line.startswith("|") else "")


def num_cells(row: str) -> int:
    return len(re.findall(r"(?<!\\)\|", row)) - 1


@pytest.mark.parametrize("path", [*PAGES.values(), *README_FILES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_row_of_a_table_has_as_many_cells_as_its_header(path: Path) -> None:
    found = list(rows_of_tables(path.read_text()))
    assert [row for header, row in found if num_cells(row) != num_cells(header)] == []
    assert all(row.endswith("|") for pair in found for row in pair)


def test_a_row_with_a_cell_too_few_is_found() -> None:
    table = "| a | b |\n| --- | --- |\n| 1 | `x\\|y` |\n| only |\n\n| c |\n| - |\n"
    found = list(rows_of_tables(table))
    assert [row for header, row in found if num_cells(row) != num_cells(header)] == ["| only |"]
    assert len(found) == 4


@pytest.mark.parametrize("page", PAGES)
def test_files_and_links_lead_somewhere(page: str) -> None:
    text = PAGES[page].read_text()
    for path in re.findall(r"(?<![\w/])((?:examples|tests)/[\w/.-]+\.\w+)", text):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"`(test_\w+\.py)`", text):
        assert list((ROOT / "tests").rglob(name)), name
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (PAGES[page].parent / target).exists(), target
