"""The threshold protocol: its sets, its runs, what it refuses, and that it goes on when it was killed."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, SubsetRandomSampler

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
from lightning_easiness.cli.main import main
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.experiments.threshold_set import SET_FILE
from lightning_easiness.labels.threshold_issues import find_threshold_issues
from lightning_easiness.select.base import SelectionState
from tests.made_runs import whole
from tests.repeated_runs import in_a_process, observed
from tests.selecting import Base
from tests.small import NUM_CLASSES, Net, Points, loader, trainer

N, SIZE = 60, 12  # 60 / (4 + 1) threshold examples in each run

pytestmark = [  # 12 are few, and a training of three epochs finds some classes hard
    pytest.mark.filterwarnings("ignore:The threshold, percentile=:UserWarning"),
    pytest.mark.filterwarnings("ignore:Most labels of some classes are called wrong:UserWarning"),
]


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


def test_the_command_line_gives_the_same_table(trained: ThresholdRuns, tmp_path: Path) -> None:
    trained.find_label_issues().to_csv(tmp_path / "expected.csv")
    arguments = ["issues", str(trained.dirpath), "--rule", "threshold", "--output", str(tmp_path / "found.csv")]
    assert main(arguments) == 0
    assert (tmp_path / "found.csv").read_bytes() == (tmp_path / "expected.csv").read_bytes()


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
                "fingerprint": DataIdentity(N, Points(N).y).fingerprint,
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


# ------------------------------------------------------------------ a report from the folder


def test_a_report_from_the_folder_is_that_of_the_protocol(trained: ThresholdRuns) -> None:
    of_folder, of_protocol = find_threshold_issues(trained.dirpath), trained.find_label_issues()
    for name in ("index", "given", "suggested", "score", "spread", "is_issue", "probabilities"):
        assert torch.equal(getattr(of_folder, name), getattr(of_protocol, name)), name
    assert of_folder.explanation == of_protocol.explanation
    one = find_threshold_issues(str(trained.dirpath), "mean_loss", runs=["seed-4"], percentile=90)
    records = [EasinessRecord.load(folder, "train-online", "seed-4") for folder in trained.folders]
    options: dict[str, Any] = {"threshold_indices": trained.threshold_indices, "percentile": 90}
    wanted = find_label_issues(records, "mean_loss", rule="threshold", **options)
    assert (one.score_name, one.threshold) == ("mean_loss", wanted.threshold)
    assert torch.equal(one.index, wanted.index)
    shorter = runs(trained.dirpath, seeds=(3,), seed=7).find_label_issues()
    assert torch.equal(shorter.index, find_threshold_issues(trained.dirpath, runs=["seed-3"]).index)


def test_a_report_from_a_folder_leaves_out_what_is_not_complete(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no folder '.*half-0': give the `dirpath` that ThresholdRu"):
        find_threshold_issues(tmp_path)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        runs(tmp_path, make=lambda: make_trainer(callbacks=[Interrupt()]), seeds=(0, 1)).run()
    with pytest.raises(ValueError, match=r"No run in '.*half-0' is complete: let ThresholdRuns\(...\).run\(\) go on"):
        find_threshold_issues(tmp_path)
    runs(tmp_path).run()
    with pytest.raises(RuntimeError, match="stopped by the test"):
        runs(tmp_path, make=lambda: make_trainer(callbacks=[Interrupt()]), seeds=(0, 1)).run()
    with pytest.warns(UserWarning, match=r"1 of 2 runs in '.*half-0' are not complete .* the first is 'seed-1'"):
        issues = find_threshold_issues(tmp_path)
    assert torch.equal(issues.index, find_threshold_issues(tmp_path, runs=["seed-0"]).index)


class Interrupt(Callback):
    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            raise RuntimeError("stopped by the test")


def test_examples_that_the_sampler_never_draws_do_not_stop_the_report(tmp_path: Path) -> None:
    drawn = list(range(0, N, 2))
    protocol = runs(tmp_path, DataLoader(Points(N), batch_size=8, sampler=SubsetRandomSampler(drawn)))
    with pytest.warns(UserWarning, match="30 of 60 examples could not be judged"):
        issues = protocol.find_label_issues()
    assert sorted(issues.index.tolist()) == drawn
    seen = [sum(index in drawn for index in indices.tolist()) for indices in protocol.threshold_indices]
    assert f"99 % of the {seen[0]} and {seen[1]} that were trained on are as hard as" in issues.explanation
    assert torch.equal(issues.given, Points(N).y[issues.index])


# ------------------------------------------------------------------ what is known before training is said before it


def never() -> Trainer:
    raise AssertionError("nothing is to be trained")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"score": "area_under_margn"}, ValueError, "There is no score 'area_under_margn'"),
        ({"score": "variability"}, ValueError, "neither end of 'variability' is hard"),
        ({"percentil": 95}, TypeError, "find_threshold_issues() has no option 'percentil': choose from checkpoint, "),
        ({"threshold_indices": []}, TypeError, "find_threshold_issues() has no option 'threshold_indices'"),
        ({"rule": "mixture"}, ValueError, "is judged by rule='threshold' alone; got rule='mixture': leave `rule` out"),
        ({"percentile": 0.99}, ValueError, "must be in [1, 100]; got 0.99: did you mean 99?"),
        ({"num_suspects": -1}, ValueError, "got -1"),
        ({"refine": "medium"}, ValueError, "got 'medium'"),
        ({"series": "train-probe"}, ValueError, "got series='train-probe', in which threshold examples are under"),
    ],
)
def test_options_are_looked_at_before_training(
    options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        runs(tmp_path, make=never).find_label_issues(**options)
    with pytest.raises(error, match=re.escape(message)):
        find_threshold_issues(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


NO_PROBE = (
    "`refine` needs sample easiness, which a probe observes, but the EasinessCallback that ThresholdRuns adds has"
    " probe=None: let `make_trainer` return Trainers with EasinessCallback(probe='train', probabilities=True), and"
    " train into another `dirpath`; or give `easiness`."
)
NO_PROBABILITIES = (
    "Score 'self_confidence' needs averaged probabilities, but the EasinessCallback of your Trainer has"
    " probabilities=False: let `make_trainer` return Trainers with EasinessCallback(probabilities=True), and train into"
    " another `dirpath`; or give `probabilities`."
)
NO_FIELD = (
    "Score 'el2n' needs field 'el2n', but the training forward shows loss, correct, margin: take"
    " score='area_under_margin'."
)


@pytest.mark.parametrize(
    ("callback", "options", "message"),
    [
        (None, {"refine": "hard"}, NO_PROBE),
        ({"probe": None}, {"score": "self_confidence"}, NO_PROBABILITIES),
        ({}, {"score": "el2n"}, NO_FIELD),
    ],
)
def test_a_callback_that_does_not_observe_what_is_asked_for(
    callback: dict[str, Any] | None, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    made: list[Wide] = []

    def make_module(num_classes: int) -> Wide:
        made.append(Wide(num_classes))
        return made[-1]

    def make() -> Trainer:
        return make_trainer(callbacks=[] if callback is None else [EasinessCallback(num_images=0, **callback)])

    with pytest.raises(ValueError, match=whole(message)):
        runs(tmp_path, make=make, make_module=make_module).find_label_issues(**options)
    assert made[0].trained == []


def test_runs_that_do_not_hold_what_is_asked_for_are_not_gone_on_with(tmp_path: Path) -> None:
    def plain() -> Trainer:
        return make_trainer(callbacks=[EasinessCallback(probe=None, num_images=0)])

    runs(tmp_path, make=plain).run()
    for options, message in {
        "hard": r"^`refine` needs .* but run 'seed-0' in '.*half-0' holds no series 'train-probe': let `make_trainer`",
        None: r"^Score 'normalized_margin' needs averaged probabilities, but run 'seed-0' in '.*half-0' holds none:",
    }.items():
        score = "area_under_margin" if options else "normalized_margin"
        with pytest.raises(ValueError, match=message):
            runs(tmp_path, make=never, seeds=(0, 1)).find_label_issues(score, refine=options)
        with pytest.raises(ValueError, match=message):
            find_threshold_issues(tmp_path, score, refine=options)
    given = torch.zeros(N)
    assert len(find_threshold_issues(tmp_path, num_suspects=9, refine="hard", easiness=given).flagged) == 9


# ------------------------------------------------------------------ the data that a folder holds runs of


OTHER_LABELS = (
    r"^'.*' holds runs that were trained when the data set listed other labels, so they are of other data; give"
    r" ThresholdRuns another `dirpath`, or the labels of then to go on\.$"
)


def relabelled() -> Points:
    points = Points(N)
    points.y = (points.y + 1) % NUM_CLASSES
    return points


class Relabelled(Base):
    def setup(self, stage: str) -> None:
        self.train = relabelled()


def test_complete_runs_of_another_data_set_are_no_report_of_this_one(trained: ThresholdRuns) -> None:
    def go_on(data: Any) -> Any:
        return runs(trained.dirpath, data, make=never, seeds=(3, 4), seed=7)

    for shorter in (loader(Points(53)), Base(53), lambda: loader(Points(53))):
        with pytest.raises(ValueError, match="half-0' holds runs of 60 examples, but the data set has 53"):
            go_on(shorter).find_label_issues()
    for other in (loader(relabelled()), Relabelled(N), lambda: loader(relabelled())):
        with pytest.raises(ValueError, match=OTHER_LABELS):
            go_on(other).run()
    for same in (loader(Points(N)), Base(N), lambda: loader(Points(N)), loader(Unlisted())):
        assert len(go_on(same).run()) == 2


def test_a_half_that_is_complete_keeps_the_other_from_training_on_other_labels(tmp_path: Path) -> None:
    count = [0]

    def once() -> Trainer:
        count[0] += 1
        return make_trainer(callbacks=[Interrupt()] if count[0] == 2 else [])

    with pytest.raises(RuntimeError, match="stopped by the test"):
        runs(tmp_path, make=once).run()
    with pytest.raises(ValueError, match=OTHER_LABELS):
        runs(tmp_path, loader(relabelled()), make=never).run()
    assert len(runs(tmp_path).find_label_issues()) == N


class Remade(Points):
    """Lists labels that it does not hand out."""

    def __init__(self) -> None:
        super().__init__(N)
        self.y = self.y * 10

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x, label = super().__getitem__(index)
        return x, label // 10


class Drawn(Base):
    """Splits at random, so that its labels are others each time that it is set up."""

    def setup(self, stage: str) -> None:
        self.train = Subset(Points(2 * N), torch.randperm(2 * N)[:N].tolist())


class NeedsTrainer(Base):
    def setup(self, stage: str) -> None:
        assert self.trainer.world_size == 1
        super().setup(stage)


def test_what_cannot_be_told_apart_is_gone_on_with(tmp_path: Path) -> None:
    remade = runs(tmp_path / "remade", loader(Remade()))
    with pytest.raises(ValueError, match="The `num_classes` of ThresholdExamples is 4"):
        remade.run()  # of a data set that lists labels which are no classes
    drawn = runs(tmp_path / "drawn", Drawn(N))
    before = torch.get_rng_state()
    records = drawn.run()
    assert len(drawn.run()) == len(records)
    assert torch.equal(torch.get_rng_state(), before)
    runs(tmp_path / "needs", NeedsTrainer(N)).run()
    message = r"cannot be looked at outside of a training \(AttributeError: .* so it is not known whether"
    with pytest.warns(UserWarning, match=message) as told:
        runs(tmp_path / "needs", NeedsTrainer(N)).run()
    assert told[0].filename == __file__


def test_a_set_that_is_lost_is_drawn_again_from_complete_runs(tmp_path: Path) -> None:
    protocol = runs(tmp_path)
    protocol.run()
    sets = protocol.threshold_indices
    for folder in protocol.folders:
        (folder / SET_FILE).unlink()
    with pytest.raises(RuntimeError, match="that can be read: call run"):
        find_threshold_issues(tmp_path)
    with pytest.raises(ValueError, match=r"'.*' is lost, and the runs beside it were not trained with the examples"):
        runs(tmp_path, make=never, seed=1).run()
    assert not (tmp_path / "half-0" / SET_FILE).exists()
    runs(tmp_path, make=never).run()
    assert all(torch.equal(old, new) for old, new in zip(sets, protocol.threshold_indices, strict=True))
    assert len(find_threshold_issues(tmp_path)) == N


def test_a_refused_head_leaves_nothing_that_a_second_start_stumbles_over(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 5 outputs, but with 3 classes"):
        runs(tmp_path, loader(Unlisted()), make_module=lambda num_classes: Wide(NUM_CLASSES + 1), num_classes=3).run()
    assert not list(tmp_path.rglob(SET_FILE)), "a folder is claimed by what is trained in it"
    runs(tmp_path, seeds=(1,)).run()
    assert len(find_threshold_issues(tmp_path)) == N, "and what came to nothing is no run that is left out"
    assert len(runs(tmp_path).run()) == 2


# ------------------------------------------------------------------ factories, and training untouched


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
