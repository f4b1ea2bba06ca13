"""Pictures of a record of a `random_split`: of its part, of the whole data set by itself, never of another part."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, random_split

from lightning_easiness import (
    EasinessCallback,
    EasinessDataModule,
    EasinessRecord,
    Keep,
    LabelIssues,
    Report,
    averages_grid,
    draw_data_map,
    find_label_issues,
    scores_grid,
    suspects_grid,
    write_suspects,
    write_tensorboard,
)
from lightning_easiness.cli.main import main
from lightning_easiness.view.images import NoImageError
from tests.small import Net, trainer

SIZE, PART = 60, 44
X = torch.randn(SIZE, 8, generator=torch.Generator().manual_seed(0))
Y = X[:, :4].argmax(1)


class Shades(Dataset[Any]):
    """A whole data set: item i is an image of the shade 4 i, and it lists its labels where asked."""

    def __init__(self, listed: bool = False) -> None:
        self.read = list[int]()
        if listed:
            self.targets = Y.tolist()

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        assert isinstance(index, int)
        self.read.append(index)
        return torch.full((1, 8, 8), 4 * index, dtype=torch.uint8), int(Y[index])


def split(dataset: Any, seed: int = 0) -> Subset[Any]:
    return random_split(dataset, [PART, SIZE - PART], torch.Generator().manual_seed(seed))[0]


SOURCE = split(Shades()).indices


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("split") / "record"
    watch = EasinessCallback(folder, probabilities=True, every_n_epochs=1, num_images=0)
    part = split(TensorDataset(X, Y))
    torch.manual_seed(0)  # the same training whatever ran before
    trainer(callbacks=[watch], max_epochs=3).fit(Net(), DataLoader(part, batch_size=11, shuffle=True))
    return folder


@pytest.fixture(scope="module")
def record(folder: Path) -> EasinessRecord:
    return EasinessRecord.load(folder, "train-probe")


@pytest.fixture(scope="module")
def issues(folder: Path) -> LabelIssues:
    return find_label_issues(folder)


def map_of(record: EasinessRecord, data: Any, path: Path) -> np.ndarray:
    draw_data_map(record, path, dataset=data)
    with Image.open(path) as image:
        return np.asarray(image)


Show = Callable[[Any, EasinessRecord, LabelIssues, Path], Any]
SHOWS: dict[str, Show] = {
    "scores_grid": lambda data, record, issues, path: scores_grid(data, record.score("mean_loss")),
    "averages_grid": lambda data, record, issues, path: averages_grid(data, record.score("mean_loss")),
    "suspects_grid": lambda data, record, issues, path: suspects_grid(data, issues),
    "draw_data_map": lambda data, record, issues, path: map_of(record, data, path / "map.png"),
    "Report": lambda data, record, issues, path: Report.of(record, issues, dataset=data).to_html(),
    "write_tensorboard": lambda data, record, issues, path: write_tensorboard(record, data, path / "log"),
    "write_tensorboard of scores": lambda data, record, issues, path: write_tensorboard(
        record.score("mean_loss"), data, path / "log"
    ),
    "write_suspects": lambda data, record, issues, path: write_suspects(data, issues, path / "log"),
}


def owner_of(show: str) -> str:
    return {"write_suspects": "suspects_grid"}.get(show, show.removesuffix(" of scores"))


def same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) else np.array_equal(one, other)


@pytest.mark.parametrize("show", SHOWS)
def test_the_whole_data_set_shows_the_same_as_the_part(
    show: str, record: EasinessRecord, issues: LabelIssues, tmp_path: Path
) -> None:
    whole, part = Shades(), Shades()
    if show == "draw_data_map":
        pytest.importorskip("matplotlib")
    (tmp_path / "part").mkdir()
    shown = SHOWS[show](whole, record, issues, tmp_path)
    assert same(shown, SHOWS[show](split(part), record, issues, tmp_path / "part"))
    assert whole.read == part.read
    assert whole.read
    assert set(whole.read) <= set(SOURCE)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("show", SHOWS)
def test_another_random_part_is_refused_before_anything_is_drawn(
    show: str, listed: bool, record: EasinessRecord, issues: LabelIssues, tmp_path: Path
) -> None:
    other = Shades(listed)
    with pytest.raises(ValueError, match=r"^The `dataset` of ") as error:
        SHOWS[show](split(other, seed=5), record, issues, tmp_path)
    theirs = split(other, seed=5).indices
    assert re.fullmatch(
        rf"The `dataset` of {owner_of(show)} and the one that was observed are not of the same data: example 0 is item"
        rf" {theirs[0]} of its source in the first and {SOURCE[0]} in the second \(\d+ of {PART} differ\), so an index"
        r" no longer names the same example: pass the part that was observed, or the whole data set that it was taken"
        r" from\.",
        str(error.value),
    )
    assert other.read == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("show", [show for show in SHOWS if owner_of(show) != "suspects_grid"])
def test_a_whole_data_set_of_other_labels_is_refused(
    show: str, record: EasinessRecord, issues: LabelIssues, tmp_path: Path
) -> None:
    other = Shades()
    other.targets = Y.roll(1).tolist()
    message = (
        r"has target \d in the first and \d in the second .*: pass the data set .*, with the labels of its training\.$"
    )
    with pytest.raises(ValueError, match=message):
        SHOWS[show](other, record, issues, tmp_path)
    assert other.read == []


@pytest.mark.parametrize("show", SHOWS)
def test_what_is_neither_the_part_nor_the_whole_is_refused(
    show: str, record: EasinessRecord, issues: LabelIssues, tmp_path: Path
) -> None:
    of_a_part = Subset(Shades(), range(SIZE - 1))  # long enough, but its item i is not item i of the source
    for other in (Subset(Shades(), range(20)), of_a_part, torch.zeros(max(SOURCE), 8, 8)):
        with pytest.raises(ValueError, match=rf"has {len(other)} examples and the second {PART}, .* whole data set"):
            SHOWS[show](other, record, issues, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_a_part_is_shown_from_its_source(tmp_path: Path) -> None:
    nested = split(Subset(TensorDataset(X, Y), range(SIZE - 1, -1, -1)), seed=3)
    watch = EasinessCallback(tmp_path / "nested", num_images=0)
    trainer(callbacks=[watch]).fit(Net(), DataLoader(nested, batch_size=11, shuffle=True))
    scores = EasinessRecord.load(tmp_path / "nested", "train-probe").score("mean_loss")
    whole = Shades()
    scores_grid(whole, scores, 3)
    assert whole.read == [SIZE - 1 - nested.indices[example] for example in scores.hardest(1.0)[:3].tolist()]


def test_suspects_of_corrected_labels_are_shown_with_a_warning(issues: LabelIssues) -> None:
    corrected = Shades(listed=True)
    example = int(issues.index[0])
    corrected.targets[SOURCE[example]] = (corrected.targets[SOURCE[example]] + 1) % 4
    with pytest.warns(UserWarning, match=rf"^1 of {PART} labels that the data set lists are not those of the issues"):
        suspects_grid(corrected, issues, 3)
    assert corrected.read == [SOURCE[example] for example in issues.index[:3].tolist()]


def test_the_train_loader_of_a_selection_shows_its_whole_data_set(record: EasinessRecord) -> None:
    shades = Shades()
    data = EasinessDataModule(DataLoader(split(shades), batch_size=11), selection=Keep(range(20)))
    data.setup("fit")
    scores = record.score("mean_loss")
    scores_grid(data.train_dataloader().dataset, scores, 3)
    assert shades.read == [SOURCE[example] for example in scores.hardest(1.0)[:3].tolist()]


def test_an_error_about_an_item_without_an_image_names_its_own_data_set(record: EasinessRecord) -> None:
    class Words(list[str]):
        pass

    with pytest.raises(NoImageError, match=r"^Words holds no images: "):
        scores_grid(Words(["word"] * SIZE), record.score("mean_loss"))


# ------------------------------------------------------------------------------------------------ the command line

MODULE = """
import torch
from tests.view.test_random_split import Shades, split
def make_dataset(): return Shades(listed=True)
def make_part(): return split(Shades())
def make_other(): return split(Shades(), seed=5)
"""
IMAGES = torch.arange(SIZE, dtype=torch.uint8)[:, None, None].expand(-1, 8, 8).mul(4).numpy()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shades.py").write_text(MODULE)
    np.save(tmp_path / "whole.npy", IMAGES)
    np.save(tmp_path / "part.npy", IMAGES[SOURCE])
    np.save(tmp_path / "short.npy", IMAGES[: PART - 1])
    yield tmp_path
    sys.modules.pop("shades", None)


def test_report_takes_the_part_or_the_whole_and_refuses_another(
    folder: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = []
    options = (["--dataset", "shades:make_dataset"], ["--dataset", "shades:make_part"], ["--images", "whole.npy"])
    for given in (*options, ["--images", "part.npy"]):
        assert main(["report", str(folder), *given, "--title", "T", "--output", "r.html"]) == 0
        pages.append(Path("r.html").read_text())
    assert pages[0] == pages[1]
    assert pages[2] == pages[3]
    capsys.readouterr()
    assert main(["report", str(folder), "--dataset", "shades:make_other", "--output", "other.html"]) == 2
    assert "of its source in the first" in capsys.readouterr().err
    assert not Path("other.html").exists()


def test_view_takes_the_images_of_the_part_or_of_the_whole(
    folder: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    for name in ("whole", "part"):
        assert main(["view", str(folder), "--images", f"{name}.npy", "--output", name]) == 0
    drawn = {path.name for path in Path("part").glob("*.png")}
    assert {"mean_loss_hardest.png", "suspects.png"} <= drawn
    for name in drawn:
        assert (Path("part") / name).read_bytes() == (Path("whole") / name).read_bytes()
    capsys.readouterr()
    assert main(["view", str(folder), "--images", "short.npy", "--output", "no"]) == 2
    assert "give the images of the part that was recorded, in its order, or of the whole data set." in (
        " ".join(capsys.readouterr().err.split())
    )
    assert not Path("no").exists()


# ------------------------------------------------------------------------------------------------ training again


class Split(LightningDataModule):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self.part = split(TensorDataset(X, Y), seed)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.part, batch_size=4, shuffle=True)


def test_keep_refuses_another_split_than_that_of_the_issues_scores_or_record(
    record: EasinessRecord, issues: LabelIssues
) -> None:
    everything = range(PART)
    for known in (issues, record, record.score("mean_loss")):
        for keep in (Keep(range(30), data=known), Keep(everything, labels=torch.zeros(PART).long(), data=known)):
            trainer(max_epochs=1).fit(Net(), datamodule=EasinessDataModule(Split(0), selection=keep))
            module = Net()
            with pytest.raises(
                ValueError, match=r"^The `data` of Keep and the data set are not of the same data: exam"
            ):
                trainer(max_epochs=1).fit(module, datamodule=EasinessDataModule(Split(5), selection=keep))
            assert module.losses == []


def test_keep_refuses_data_without_an_identity() -> None:
    with pytest.raises(TypeError, match=r"^The `data` of Keep must be label issues, scores or a record, .*; got list"):
        Keep([0], data=[0])
