"""The threshold protocol: its sets, its runs, what it refuses, and that it goes on when it was killed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_easiness import (
    EasinessCallback,
    EasinessDataModule,
    EasinessRecord,
    Keep,
    ThresholdExamples,
    ThresholdRuns,
    find_label_issues,
    functional,
)
from lightning_easiness.selection import SelectionState
from lightning_easiness.threshold_runs import SET_FILE
from tests.made_runs import whole
from tests.repeated_runs import in_a_process, observed
from tests.selecting import Base
from tests.small import NUM_CLASSES, Net, Points, loader, trainer

N, SIZE = 60, 12  # 60 / (4 + 1) threshold examples in each run


class Wide(Net):
    """A module whose head is told how wide it is; keeps the labels that it is trained on."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, num_classes))
        self.trained: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.trained.append(batch[1].clone())
        return super().training_step(batch, batch_idx)


class Unlisted(Points):
    """Does not list its labels, so that they are known only when they are read."""

    def __init__(self, size: int = N) -> None:
        super().__init__(size)
        self.answers = {index: int(label) for index, label in enumerate(self.y)}
        del self.y

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index], self.answers[index]


def make_trainer(**options: Any) -> Trainer:
    return trainer(**{"max_epochs": 3, **options})


def runs(folder: Path, data: Any = None, make_module: Any = Wide, make: Any = make_trainer, **options: Any) -> Any:
    data = loader(Points(N)) if data is None else data
    arguments = {"num_classes": NUM_CLASSES, "dirpath": folder, "progress": False, **options}
    return ThresholdRuns(make, make_module, data, **arguments)


# ------------------------------------------------------------------ what is trained


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> ThresholdRuns:
    protocol = runs(tmp_path_factory.mktemp("protocol"), seeds=(3, 4), seed=7)
    protocol.run()
    return protocol


def test_each_half_trains_its_set_under_the_class_that_does_not_exist(trained: ThresholdRuns) -> None:
    records, target = trained.run(), Points(N).y
    sets = trained.threshold_indices
    assert not set(sets[0].tolist()) & set(sets[1].tolist())
    for part, (record, indices) in enumerate(zip(records, sets, strict=True)):
        assert torch.equal(indices, functional.threshold_examples(target, NUM_CLASSES, part, seed=7))
        assert len(indices) == SIZE
        expected = target.clone()
        expected[indices] = NUM_CLASSES
        assert torch.equal(record.target, expected)
        assert (record.series, record.runs, record.num_classes) == ("train-online", ["seed-3", "seed-4"], 5)
        assert record.count.unique().tolist() == [1]
        assert record.probabilities().shape == (N, NUM_CLASSES + 1)


def test_the_layout_on_disk(trained: ThresholdRuns) -> None:
    for part, folder in enumerate(trained.folders):
        assert folder == trained.dirpath / f"half-{part}"
        assert sorted(path.name for path in folder.iterdir()) == ["seed-3", "seed-4", SET_FILE]
        assert sorted(path.name for path in (folder / "seed-3").iterdir() if path.is_dir()) == ["train-online"]
        with safe_open(folder / SET_FILE, "pt") as file:
            assert file.get_tensor("indices").dtype == torch.int64
            assert file.metadata() == {
                "format": "lightning_easiness.threshold_examples",
                "num_classes": "4",
                "num_examples": str(N),
                "part": str(part),
                "seed": "7",
            }


def test_the_table_is_that_of_find_label_issues(trained: ThresholdRuns) -> None:
    issues = trained.find_label_issues()
    records, sets = trained.run(), trained.threshold_indices
    wanted = find_label_issues(records, rule="threshold", threshold_indices=sets)
    assert torch.equal(issues.index, wanted.index)
    assert torch.equal(issues.is_issue, wanted.is_issue)
    assert (len(issues), len(issues.unseen), issues.rule) == (N, 0, "threshold")
    assert torch.equal(issues.given, Points(N).y[issues.index]), "each under its own label"
    # of each example the average over the halves that judge it, over the real classes
    rows = []
    for record, indices in zip(records, sets, strict=True):
        row = record.probabilities()[:, :NUM_CLASSES]
        row = row / row.sum(1, keepdim=True)
        row[indices] = torch.nan
        rows.append(row)
    wanted_rows = torch.stack(rows).nanmean(0)
    torch.testing.assert_close(issues.probabilities, wanted_rows)
    assert torch.equal(issues.suggested, functional.suggest_labels(wanted_rows, Points(N).y)[issues.index])
    assert issues.to_cleanlab()["pred_probs"].shape == (N, NUM_CLASSES)
    margins = trained.find_label_issues("normalized_margin")
    assert (len(margins), margins.score_name) == (N, "normalized_margin")


def test_wrong_labels_are_found(tmp_path: Path) -> None:
    """On classes that can be learnt, a tenth of the labels wrong."""
    points = Points(400)
    truth = points.y.clone()
    points.y = functional.corrupt_labels(truth, 0.1, seed=2)
    wrong = points.y != truth
    data = loader(points, batch_size=16)
    protocol = runs(tmp_path, data, make=lambda: make_trainer(max_epochs=12))
    issues = protocol.find_label_issues()
    ranks = torch.empty(400)
    ranks[issues.index] = torch.arange(400.0)
    auroc = (ranks[~wrong][None] > ranks[wrong][:, None]).float().mean()
    assert auroc > 0.9
    flagged = torch.zeros(400, dtype=torch.bool)
    flagged[issues.flagged] = True
    assert (flagged & wrong).sum() / wrong.sum() > 0.5
    assert (issues.suggested == truth[issues.index])[wrong[issues.index]].float().mean() > 0.7


@pytest.mark.parametrize("kind", ["datamodule", "a function", "labels that are not listed"])
def test_every_way_to_give_data(kind: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "datamodule": lambda: Base(N),
        "a function": lambda: lambda: loader(Points(N)),
        "labels that are not listed": lambda: loader(Unlisted()),
    }
    issues = runs(tmp_path, given[kind]()).find_label_issues()
    assert torch.equal(issues.given, Points(N).y[issues.index])


@pytest.mark.parametrize("checkpoint", [-1, 0])
def test_a_probe_of_the_users_serves_the_refinement(checkpoint: int, tmp_path: Path) -> None:
    def observing() -> Trainer:
        return make_trainer(callbacks=[EasinessCallback(num_images=0)])

    protocol = runs(tmp_path, make=observing)
    plain = protocol.find_label_issues(checkpoint=checkpoint, num_suspects=30)
    assert (plain.suggested == -1).all(), "the user's callback averages no probabilities"
    refined = protocol.find_label_issues(checkpoint=checkpoint, num_suspects=30, refine="hard", tol=0.4)
    rows = []
    for folder, indices in zip(protocol.folders, protocol.threshold_indices, strict=True):
        values = EasinessRecord.load(folder).score("sample_easiness", checkpoint).values.clone()
        values[indices] = torch.nan
        rows.append(values)
    hard = torch.stack(rows).nanmean(0) <= 0.4
    assert sorted(refined.flagged.tolist()) == sorted(one for one in plain.flagged.tolist() if hard[one])
    with pytest.raises(FileNotFoundError, match="'train-probe'"):
        runs(tmp_path / "other").find_label_issues(refine="hard")


def test_factories_are_given_the_seed(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []

    def make(seed: int) -> Trainer:
        told.append(("trainer", seed))
        return make_trainer(max_epochs=1)

    def make_module(num_classes: int, seed: int) -> LightningModule:
        told.append(("module", seed))
        assert num_classes == NUM_CLASSES + 1
        return Wide(num_classes)

    runs(tmp_path, make_module=make_module, make=make, seeds=(1, 2)).run()
    assert told == [(who, seed) for _ in (0, 1) for seed in (1, 2) for who in ("module", "trainer")]


def test_the_look_at_the_head_leaves_training_untouched(tmp_path: Path) -> None:
    """The record is that of the same training without the guard."""
    from lightning_easiness import repeat_fit

    runs(tmp_path / "guarded").run()
    for part in (0, 1):
        data = EasinessDataModule(loader(Points(N)), ThresholdExamples(NUM_CLASSES, part))
        folder = tmp_path / f"plain-{part}"
        repeat_fit(
            lambda: make_trainer(callbacks=[EasinessCallback(probe=None, probabilities=True)]),
            lambda: Wide(NUM_CLASSES + 1),
            data,
            seeds=[0],
            dirpath=folder,
            progress=False,
        )
        left, right = observed(tmp_path / "guarded" / f"half-{part}"), observed(folder)
        del left[SET_FILE]
        assert left == right


# ------------------------------------------------------------------ killed


class Kill(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == (self.epoch, 4):
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.multiprocess
def test_killed_it_goes_on_and_ends_with_the_same(trained: ThresholdRuns, tmp_path: Path) -> None:
    def work(epoch: int, half: int) -> None:
        count = [0]

        def make(seed: int) -> Trainer:
            count[0] += 1
            return make_trainer(callbacks=[Kill(epoch)] if count[0] == half else [])

        runs(tmp_path, make=make, seeds=(3, 4), seed=7).run()

    # the first run of the first half, in its second epoch; the one after it; the last run, in its first batches
    for epoch, half in ((1, 1), (0, 2), (2, 2)):
        assert in_a_process(lambda: work(epoch, half)) == -signal.SIGKILL  # noqa: B023
    assert (tmp_path / "half-0" / SET_FILE).exists()
    protocol = runs(tmp_path, seeds=(3, 4), seed=7)
    protocol.run()
    assert observed(tmp_path) == observed(trained.dirpath)


def test_what_is_complete_is_not_trained_again_and_a_lost_set_is_drawn_again(tmp_path: Path) -> None:
    runs(tmp_path).run()
    before = observed(tmp_path)

    def never() -> Trainer:
        raise AssertionError

    assert len(runs(tmp_path, make=never).run()) == 2
    more = runs(tmp_path, seeds=(0, 1))
    (tmp_path / "half-1" / SET_FILE).write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="is damaged, or no set of threshold examples; it is drawn again"):
        more.run()
    after = observed(tmp_path)
    assert {path: content for path, content in after.items() if "seed-1" not in path} == before


# ------------------------------------------------------------------ bad input


def test_a_head_that_is_not_one_wider_is_refused_before_the_first_step(tmp_path: Path) -> None:
    module = Wide(NUM_CLASSES)
    with pytest.raises(
        ValueError,
        match=whole(
            "The module that `make_module` of ThresholdRuns returned has 4 outputs, but with 4 classes and the one that"
            " does not exist it needs 5: give its head the `num_classes` that make_module is given."
        ),
    ):
        runs(tmp_path, make_module=lambda num_classes: module).run()
    assert module.trained == []
    with pytest.raises(ValueError, match="has 6 outputs, but with 4 classes"):
        runs(tmp_path / "wider", make_module=lambda num_classes: Wide(num_classes + 1)).run()


def test_a_module_that_is_told_nothing_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        TypeError,
        match=whole(
            "The `make_module` of ThresholdRuns must take `num_classes`, the number of outputs, which is one more than"
            " the 4 classes of the data set: def make_module(num_classes): ..."
        ),
    ):
        runs(tmp_path, make_module=Net)


COLLIDES = (
    "The `num_classes` of {} is 3, which then is the threshold class, but example {} has the label 3, and so {} are"
    " outside 0 to 2: give the number of real classes."
)


def test_a_threshold_class_that_is_a_real_one_is_refused_before_training(tmp_path: Path) -> None:
    modules: list[Wide] = []

    def make_module(num_classes: int) -> Wide:
        modules.append(Wide(num_classes))
        return modules[-1]

    real = (Points(N).y == 3).nonzero()[:, 0]
    message = COLLIDES.format("ThresholdExamples", int(real[0]), len(real))
    with pytest.raises(ValueError, match=whole(message)):
        runs(tmp_path, make_module=make_module, num_classes=3).run()
    assert modules[0].trained == []


def test_a_threshold_class_that_is_a_real_one_is_refused_when_labels_are_seen(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^The `num_classes` of ThresholdRuns is 3, .* has the label 3, and so \d+ "):
        runs(tmp_path, loader(Unlisted()), num_classes=3).run()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 8}, "holds runs with seed=7, but `seed` is 8 now; give ThresholdRuns another `dirpath`"),
        ({"num_classes": 5}, "holds runs with num_classes=4, but `num_classes` is 5 now"),
    ],
)
def test_another_draw_in_the_same_folder(
    trained: ThresholdRuns, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        runs(trained.dirpath, seeds=(3, 4), **{"seed": 7, **options}).run()


def test_another_data_set_in_the_same_folder(trained: ThresholdRuns) -> None:
    with pytest.raises(ValueError, match="holds runs of 60 examples, but the data set has 53"):
        runs(trained.dirpath, loader(Points(53)), seeds=(9,), seed=7).run()


def test_what_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`num_classes` of threshold_examples must be at least 2; got 1"):
        runs(tmp_path, num_classes=1)
    with pytest.raises(ValueError, match="`part` of threshold_examples must be 0 or 1"):
        ThresholdExamples(3, part=2)
    with pytest.raises(TypeError, match="must be a LightningDataModule or the train DataLoader; got list"):
        runs(tmp_path, [1, 2])
    with pytest.raises(TypeError, match="cannot select from what another EasinessDataModule has selected"):
        runs(tmp_path / "e", EasinessDataModule(loader(Points(N)), Keep(range(N // 2)))).run()
    with pytest.raises(ValueError, match=r"^The EasinessCallback of ThresholdRuns must observe online"):
        runs(tmp_path / "a", make=lambda: make_trainer(callbacks=[EasinessCallback(online=False)])).run()
    with pytest.raises(ValueError, match="must hold enough examples for two sets"):
        runs(tmp_path / "b", DataLoader(Points(1))).run()
    with pytest.raises(
        RuntimeError, match=r"There is no '.*threshold-examples.safetensors' that can be read: call run"
    ):
        _ = runs(tmp_path / "c").threshold_indices
    with pytest.raises(ValueError, match="The `seeds` of repeat_fit are empty"):
        runs(tmp_path / "d", seeds=()).run()


# ------------------------------------------------------------------ the selection


def test_the_selection_labels_its_set_alone() -> None:
    selection, state = ThresholdExamples(NUM_CLASSES, part=1, seed=5), SelectionState(N, target=Points(N).y)
    assert torch.equal(selection.select(state), torch.arange(N))
    labels = selection.labels(state)
    indices = functional.threshold_examples(Points(N).y, NUM_CLASSES, 1, 5)
    assert (labels >= 0).nonzero()[:, 0].tolist() == indices.tolist()
    assert labels[indices].unique().tolist() == [NUM_CLASSES]
    with pytest.raises(ValueError, match=whole(COLLIDES.format("ThresholdExamples", 1, 1))):
        ThresholdExamples(3).select(SelectionState(30, target=torch.tensor([-1, 3, *[0] * 28])))
