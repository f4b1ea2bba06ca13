"""The threshold protocol: its draw, its runs, what it refuses, and that it goes on when it was killed."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, SubsetRandomSampler

from lightning_easiness import (
    EasinessCallback,
    EasinessDataModule,
    EasinessRecord,
    Refine,
    Threshold,
    ThresholdExamples,
    ThresholdRuns,
    find_label_issues,
    functional,
    repeat_fit,
)
from lightning_easiness.cli.main import main
from lightning_easiness.experiments._factories import read_object
from lightning_easiness.experiments.halves import ARGUMENTS_FILE
from lightning_easiness.select.base import SelectionState
from tests.distributed_experiments import Wide
from tests.made_runs import whole
from tests.repeated_runs import Kill, Moment, in_a_process, never
from tests.selecting import Base
from tests.small import NUM_CLASSES, Points, loader, recorded, trainer

N, SIZE = 60, 12  # 60 / (4 + 1) threshold examples in each run

pytestmark = [  # 12 are few, and a training of three epochs finds some classes hard
    pytest.mark.filterwarnings("ignore:The threshold, percentile=:UserWarning"),
    pytest.mark.filterwarnings("ignore:Most labels of some classes are flagged:UserWarning"),
]


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


def test_each_half_trains_its_draw_under_the_class_that_does_not_exist(trained: ThresholdRuns) -> None:
    assert sorted(path.name for path in trained.dirpath.iterdir()) == ["half-0", "half-1", ARGUMENTS_FILE]
    assert read_object(trained.dirpath / ARGUMENTS_FILE) == {"num_classes": 4, "seed": 7}
    for part, record in enumerate(trained.run()):
        indices = functional.threshold_examples(Points(N).y, NUM_CLASSES, part, seed=7)
        assert len(indices) == SIZE
        expected = Points(N).y
        expected[indices] = NUM_CLASSES
        assert torch.equal(record.target, expected)
        assert (record.series, record.runs, record.num_classes) == ("train-online", ["seed-3", "seed-4"], 5)
        assert record.count.unique().tolist() == [1]
        assert record.probabilities().shape == (N, NUM_CLASSES + 1)
        folder = trained.folders[part]
        assert sorted(path.name for path in folder.iterdir()) == record.runs
        assert [path.name for path in (folder / "seed-3").iterdir() if path.is_dir()] == ["train-online"]


def test_records_folder_and_command_line_give_the_same_table(trained: ThresholdRuns, tmp_path: Path) -> None:
    issues, of_folder = (find_label_issues(source, Threshold()) for source in (trained.run(), trained.dirpath))
    for name in ("index", "given", "suggested", "score", "spread", "is_issue", "probabilities"):
        assert torch.equal(getattr(of_folder, name), getattr(issues, name)), name
    assert of_folder.explanation == issues.explanation
    issues.to_csv(tmp_path / "expected.csv")
    assert main(["issues", str(trained.dirpath), "--rule", "threshold", "--output", str(tmp_path / "found.csv")]) == 0
    assert (tmp_path / "found.csv").read_bytes() == (tmp_path / "expected.csv").read_bytes()
    one = find_label_issues(runs(trained.dirpath, seeds=(4,), seed=7).run(), Threshold(90), score="mean_loss")
    records = [EasinessRecord.load(folder, "train-online", "seed-4") for folder in trained.folders]
    assert torch.equal(one.index, find_label_issues(records, Threshold(90), score="mean_loss").index)


def mean_of_own(rows: list[Tensor], seed: int = 0) -> Tensor:
    """The mean over the halves in which an example had its own label."""
    own = [row.clone() for row in rows]
    for part, row in enumerate(own):
        row[ThresholdExamples(NUM_CLASSES, part, seed).indices(N)] = torch.nan
    return torch.stack(own).nanmean(0)


def test_probabilities_are_those_of_the_halves_that_count(trained: ThresholdRuns) -> None:
    issues = find_label_issues(trained.run(), Threshold())
    assert (len(issues), len(issues.unseen), issues.rule) == (N, 0, "threshold")
    assert torch.equal(issues.given, Points(N).y[issues.index]), "each under its own label"
    rows = [record.probabilities()[:, :NUM_CLASSES] for record in trained.run()]
    expected = mean_of_own([row / row.sum(1, keepdim=True) for row in rows], seed=7)
    torch.testing.assert_close(issues.probabilities, expected)
    assert torch.equal(issues.suggested, functional.suggest_labels(expected, Points(N).y)[issues.index])
    margins = find_label_issues(trained.dirpath, Threshold(), score="normalized_margin")
    assert (len(margins), margins.score_name) == (N, "normalized_margin")


def test_label_errors_are_found(tmp_path: Path) -> None:
    """On classes that can be learnt, a tenth of the labels wrong."""
    points = Points(400)
    truth = points.y.clone()
    points.y = functional.corrupt_labels(truth, 0.1, seed=2)
    records = runs(tmp_path, loader(points, batch_size=16), make=lambda: make_trainer(max_epochs=12)).run()
    issues = find_label_issues(records, Threshold())
    wrong = (points.y != truth)[issues.index]  # most suspicious first
    ranks = torch.arange(400.0)
    assert (ranks[~wrong][None] > ranks[wrong][:, None]).float().mean() > 0.9, "the area under the ROC curve"
    assert issues.is_issue[wrong].float().mean() > 0.5
    assert (issues.suggested == truth[issues.index])[wrong].float().mean() > 0.7


GIVEN = {"datamodule": Base(N), "a function": lambda: loader(Points(N)), "unlisted labels": loader(Unlisted())}


@pytest.mark.parametrize("kind", GIVEN)
def test_every_way_to_give_data(kind: str, tmp_path: Path) -> None:
    issues = find_label_issues(runs(tmp_path, GIVEN[kind]).run(), Threshold())
    assert torch.equal(issues.given, Points(N).y[issues.index])


def test_an_evaluation_pass_of_the_users_serves_the_refinement(tmp_path: Path) -> None:
    observer = EasinessCallback(every_n_epochs=1, num_images=0)  # one object in both Trainers
    protocol = runs(tmp_path, make=lambda: make_trainer(callbacks=[observer]))
    records = protocol.run()
    for checkpoint in (-1, 0):
        plain = find_label_issues(tmp_path, Threshold(100), checkpoint=checkpoint)
        assert (plain.suggested == -1).all(), "the user's callback averages no probabilities"
        refined = find_label_issues(tmp_path, Threshold(100), checkpoint=checkpoint, refine=Refine(tol=1e-3))
        passes = [EasinessRecord.load(folder, "train-probe") for folder in protocol.folders]
        easiness, weakest = (
            mean_of_own([record.score(name, checkpoint).values for record in passes])
            for name in ("sample_easiness", "weakest_comparison")
        )
        assert len(refined.flagged)
        assert set(refined.flagged.tolist()) == {one for one in plain.flagged.tolist() if weakest[one] <= 1e-3}
        given = Refine(easiness=easiness, tol=1e-3, weakest_comparison=weakest)
        same = find_label_issues(records, Threshold(100), checkpoint=checkpoint, refine=given)
        assert torch.equal(same.flagged, refined.flagged)
    with pytest.raises(ValueError, match="`refine` needs the sample easiness of each example, but series 'train-onlin"):
        find_label_issues(records, Threshold(), refine=Refine())


def interrupt(epoch: int) -> Kill:
    return Kill(Moment("on_train_epoch_start", epoch), ArithmeticError)


def test_a_report_from_a_folder_leaves_out_what_is_not_complete(trained: ThresholdRuns, tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError):
        runs(tmp_path / "new", make=lambda: make_trainer(callbacks=[interrupt(1)])).run()
    with pytest.raises(ValueError, match=r"No run in '.*half-0' is complete: let ThresholdRuns\(...\).run\(\) go on"):
        find_label_issues(tmp_path / "new", Threshold())
    folder = shutil.copytree(trained.dirpath, tmp_path / "copy")
    with pytest.raises(ArithmeticError):
        go_on(folder, lambda: make_trainer(callbacks=[interrupt(1)]), seeds=(3, 4, 5))
    with pytest.warns(UserWarning, match=r"1 of 3 runs in '.*half-0' are not complete .* the first is 'seed-5'"):
        issues = find_label_issues(folder, Threshold())
    assert torch.equal(issues.index, find_label_issues(trained.dirpath, Threshold()).index)


def test_examples_that_the_sampler_never_draws_do_not_stop_the_report(tmp_path: Path) -> None:
    drawn = list(range(0, N, 2))
    records = runs(tmp_path, DataLoader(Points(N), batch_size=8, sampler=SubsetRandomSampler(drawn))).run()
    with pytest.warns(UserWarning, match="30 of 60 examples have no label score"):
        issues = find_label_issues(records, Threshold())
    assert sorted(issues.index.tolist()) == drawn
    seen = [int((record.target[drawn] == NUM_CLASSES).sum()) for record in records]
    assert f"99 % of the {seen[0]} and {seen[1]} that were trained on are as hard as" in issues.explanation
    assert torch.equal(issues.given, Points(N).y[issues.index])


def test_the_check_of_the_head_leaves_training_untouched(trained: ThresholdRuns, tmp_path: Path) -> None:
    """The record is that of the same training without the guard."""
    repeat_fit(
        lambda: make_trainer(callbacks=[EasinessCallback(probe=None, probabilities=True)]),
        lambda: Wide(NUM_CLASSES + 1),
        EasinessDataModule(loader(Points(N)), ThresholdExamples(NUM_CLASSES, part=1, seed=7)),
        seeds=[3],
        dirpath=tmp_path,
        progress=False,
    )
    assert recorded(tmp_path / "seed-3") == recorded(trained.folders[1] / "seed-3")


def test_factories_are_given_the_seed(tmp_path: Path) -> None:
    given: list[Any] = []

    def make(seed: int) -> Trainer:
        given.append(seed)
        return make_trainer(max_epochs=1)

    def make_module(num_classes: int, seed: int) -> LightningModule:
        given.append((num_classes, seed))
        return Wide(num_classes)

    runs(tmp_path, make_module=make_module, make=make, seeds=(1, 2)).run()
    assert given == [(NUM_CLASSES + 1, 1), 1, (NUM_CLASSES + 1, 2), 2] * 2


# ------------------------------------------------------------------ runs that are there already


def go_on(folder: Path, make: Any = make_trainer, **options: Any) -> list[EasinessRecord]:
    """Run on what `trained` left, or a part of it."""
    return runs(folder, make=make, **{"seeds": (3, 4), "seed": 7, **options}).run()


def test_what_is_complete_is_not_trained_again(
    trained: ThresholdRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(trained.dirpath, tmp_path / "copy")
    for half in folder.glob("half-*"):
        shutil.rmtree(half / "seed-4")
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "fit", never)
        assert len(go_on(folder, seeds=(3,))) == 2
    go_on(folder)
    assert recorded(folder) == recorded(trained.dirpath)


def test_a_folder_of_an_earlier_version_goes_on_or_is_refused(
    trained: ThresholdRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a folder has a file of threshold examples in each half, and none of arguments."""
    monkeypatch.setattr(Trainer, "fit", never)
    folder = shutil.copytree(trained.dirpath, tmp_path / "copy")
    (folder / ARGUMENTS_FILE).unlink()
    for part in (0, 1):
        (folder / f"half-{part}" / "threshold-examples.safetensors").write_bytes(b"of an earlier version")
    message = r"^The runs in '.*half-0' were not trained with the examples that `num_classes`"
    for other in ({"seed": 1}, {"num_classes": 5}):
        with pytest.raises(ValueError, match=message):
            go_on(folder, **other)
    expected = find_label_issues(trained.dirpath, Threshold())
    assert torch.equal(find_label_issues(folder, Threshold()).index, expected.index)
    assert len(go_on(folder)) == 2


@pytest.mark.parametrize(("name", "before", "now"), [("seed", 7, 8), ("num_classes", 4, 5)])
def test_another_draw_in_the_same_folder(trained: ThresholdRuns, name: str, before: int, now: int) -> None:
    message = (
        f"'{trained.dirpath}' holds what came of {name}={before}, but `{name}` is {now} now; give another `dirpath`, or"
        " the same arguments to go on."
    )
    with pytest.raises(ValueError, match=whole(message)):
        go_on(trained.dirpath, **{name: now})


def test_a_damaged_file_of_arguments(tmp_path: Path) -> None:
    (tmp_path / ARGUMENTS_FILE).write_text("{")
    with pytest.raises(ValueError, match=r"is damaged .*: delete it if '.*' is this experiment's\.$"):
        runs(tmp_path, make=never).run()


def test_runs_of_several_data_sets_are_not_mixed(tmp_path: Path) -> None:
    """A half that is complete refuses other data: of another length before training, else after an epoch."""
    count = [0]

    def once() -> Trainer:
        count[0] += 1
        return make_trainer(callbacks=[interrupt(0)] if count[0] == 2 else [])

    with pytest.raises(ArithmeticError):
        runs(tmp_path, make=once).run()
    modules: list[Wide] = []

    def kept(num_classes: int) -> Wide:
        modules.append(Wide(num_classes))
        return modules[-1]

    message = rf"^The runs in '{tmp_path}' and the data of ThresholdRuns are not of the same data: "
    with pytest.raises(ValueError, match=r"was trained on other examples .data\.num_examples: 60 then, 53 now"):
        runs(tmp_path, loader(Points(53)), make_module=kept).run()
    assert not any(module.trained for module in modules)
    relabelled = Points(N)
    relabelled.y = (relabelled.y + 1) % NUM_CLASSES
    with pytest.raises(ValueError, match=r"was trained on other examples \(other targets\)"):
        runs(tmp_path, loader(relabelled)).run()
    unlisted = Unlisted()
    unlisted.answers = {index: (label + 1) % NUM_CLASSES for index, label in unlisted.answers.items()}
    with pytest.raises(ValueError, match=message + "example 0 has target"):
        runs(tmp_path, loader(unlisted)).run()
    assert len(find_label_issues(runs(tmp_path, loader(Unlisted())).run(), Threshold())) == N


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.multiprocess
def test_killed_it_goes_on_and_ends_with_the_same(trained: ThresholdRuns, tmp_path: Path) -> None:
    def work(epoch: int, before: int) -> None:
        """Kill the run that is trained after so many others."""
        trained: list[Any] = []

        class KillLater(Kill):
            def on_train_start(self, trainer: Any, pl_module: Any) -> None:
                trained.append(trainer)

            def kill(self, trainer: Any, pl_module: Any, *batch: Any) -> None:
                if len(trained) > before:
                    super().kill(trainer, pl_module, *batch)

        go_on(tmp_path, lambda: make_trainer(callbacks=[KillLater(Moment("on_train_batch_end", epoch, 4))]))

    # the first run of the first half, in its second epoch; the one after it; the next, in its last
    for epoch, before in ((1, 0), (0, 1), (2, 1)):
        assert in_a_process(lambda: work(epoch, before)) == -signal.SIGKILL  # noqa: B023
    assert (tmp_path / ARGUMENTS_FILE).exists()
    go_on(tmp_path, make_trainer)
    assert recorded(tmp_path) == recorded(trained.dirpath)


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize("added", [0, 2])
def test_a_head_that_is_not_one_wider_is_refused_before_the_first_step(added: int, tmp_path: Path) -> None:
    module = Wide(NUM_CLASSES + added)
    with pytest.raises(
        ValueError,
        match=whole(
            f"The module that `make_module` of ThresholdRuns returned has {4 + added} outputs, but with 4 classes and"
            " the one that does not exist it needs 5: give its head the `num_classes` that make_module is given."
        ),
    ):
        runs(tmp_path, make_module=lambda num_classes: module).run()
    assert module.trained == []
    assert not list(tmp_path.glob(ARGUMENTS_FILE)), "a folder is claimed by what is trained in it"
    runs(tmp_path, seeds=(1,), num_classes=5).run()
    assert len(find_label_issues(tmp_path, Threshold())) == N, "what came to nothing is no run that is left out"


COLLIDES = (
    "The `num_classes` of {} is 3, which then is the threshold class, but example {} has the label 3, and so {} are"
    " outside 0 to 2: give the number of real classes."
)


@pytest.mark.parametrize("listed", [True, False])
def test_a_threshold_class_that_is_a_real_one(listed: bool, tmp_path: Path) -> None:
    """Refused before training where the data set lists its labels, and else after an epoch."""
    module = Wide(NUM_CLASSES)
    real = (Points(N).y == 3).nonzero()[:, 0]
    if not listed:
        real = real[~torch.isin(real, ThresholdExamples(3).indices(N))]
    message = COLLIDES.format("ThresholdExamples" if listed else "ThresholdRuns", int(real[0]), len(real))
    data = loader(Points(N) if listed else Unlisted())
    with pytest.raises(ValueError, match=whole(message)):
        runs(tmp_path, data, make_module=lambda num_classes: module, num_classes=3).run()
    assert (module.trained == []) == listed


def test_no_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=whole("The `seeds` of ThresholdRuns are empty; give one for each run, as range(10).")
    ):
        runs(tmp_path, make=never, seeds=()).run()


def test_old_methods_name_the_new_way(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match=r"no `find_label_issues` any more: find_label_issues\(runs.run\(\), Thre"):
        runs(tmp_path).find_label_issues()


# ------------------------------------------------------------------ the selection


def test_the_selection_labels_its_draw_alone() -> None:
    selection, state = ThresholdExamples(NUM_CLASSES, part=1, seed=5), SelectionState(N, target=Points(N).y)
    selected = selection.select(state)
    assert torch.equal(selected.kept, torch.arange(N))
    labels = selected.labels
    indices = functional.threshold_examples(Points(N).y, NUM_CLASSES, 1, 5)
    assert (labels >= 0).nonzero()[:, 0].tolist() == indices.tolist()
    assert labels[indices].unique().tolist() == [NUM_CLASSES]
    with pytest.raises(ValueError, match=whole(COLLIDES.format("ThresholdExamples", 1, 1))):
        ThresholdExamples(3).select(SelectionState(30, target=torch.tensor([-1, 3, *[0] * 28])))
    with pytest.raises(ValueError, match="`part` of threshold_examples must be 0 or 1"):
        ThresholdExamples(3, part=2)
