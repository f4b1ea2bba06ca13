"""Seeds that hold out a part of the examples: what enters training, what is recorded, and what is refused."""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, WeightedRandomSampler

from lightning_easiness import EasinessCallback, EasinessDataModule, EasinessRecord, Keep, repeat_fit
from lightning_easiness.experiments.held_out import HoldOut
from tests.made_runs import whole
from tests.repeated_runs import Data, never
from tests.small import Net, Points, loader, recorded, trainer

SIZE = 53


class Notes(Net):
    """Notes the inputs of each training step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.seen.append(batch[0])
        return super().training_step(batch, batch_idx)


class Plain(Net):
    """Takes a single example, as batch norm does not."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(8, 4))


def data() -> DataLoader:
    return loader(Points())


def observed(**options: Any) -> Any:
    return lambda: trainer(callbacks=[EasinessCallback(num_images=0, **options)])


def repeat(folder: Path, hold_out: Any, seeds: Any = range(5), **changes: Any) -> EasinessRecord:
    arguments = {"make_trainer": observed(), "make_module": Net, "datamodule": data, "progress": False, **changes}
    return repeat_fit(seeds=seeds, dirpath=folder, hold_out=hold_out, **arguments)


@pytest.fixture(scope="module")
def two_fifths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five runs that hold out 40 %."""
    folder = tmp_path_factory.mktemp("two-fifths")
    repeat(folder, 0.4)
    return folder


def numbers(steps: list[Tensor]) -> set[int]:
    """The examples that training steps saw, by their inputs."""
    inputs = torch.stack([Points()[index][0] for index in range(SIZE)])
    return {int((inputs == row).all(1).nonzero()) for row in torch.cat(steps)}


# ------------------------------------------------------------------ what is trained


def test_a_run_trains_on_all_but_what_it_holds_out(tmp_path: Path) -> None:
    made: list[Notes] = []

    def make() -> Notes:
        made.append(Notes())
        return made[-1]

    record = repeat(tmp_path, 0.3, seeds=(0, 1), make_module=make)
    for module, trained_on, held_out in zip(made, record.trained_on, record.held_out, strict=True):
        assert held_out.sum() in (15, 16)
        assert numbers(module.seen) == set((~held_out).nonzero()[:, 0].tolist())
        assert torch.equal(trained_on, ~held_out)
    assert not torch.equal(*record.held_out)


def test_an_epoch_has_the_batches_of_the_smaller_set(tmp_path: Path) -> None:
    record = repeat(tmp_path, 0.4, seeds=(0,), make_trainer=observed(every_n_epochs=1))
    assert record.steps.tolist() == [4, 8], "32 examples in batches of 8, where all 53 are 7 batches"


def of_size(size: int, **options: Any) -> Any:
    return lambda: loader(Points(size), **options)


UNEVEN = {
    "drop_last": (of_size(49, drop_last=True, batch_size=11), "folds", 3),
    "single examples": (of_size(25, batch_size=1), "folds", 2),
    "a selection": (lambda: EasinessDataModule(loader(batch_size=4), Keep(torch.arange(0, SIZE, 2))), 0.25, 4),
    "a weighted sampler": (
        lambda: loader(
            shuffle=False, batch_size=2, sampler=WeightedRandomSampler(torch.linspace(0.1, 2, SIZE) ** 3, SIZE)
        ),
        0.2,
        5,
    ),
}


@pytest.mark.parametrize(("made", "hold_out", "seeds"), UNEVEN.values(), ids=UNEVEN)
def test_runs_whose_epochs_differ_in_length_share_their_epochs(
    tmp_path: Path, made: Any, hold_out: Any, seeds: int
) -> None:
    record = repeat(
        tmp_path,
        hold_out,
        range(seeds),
        datamodule=made,
        make_module=Plain,
        make_trainer=observed(every_n_epochs=1),
    )
    assert record.num_runs == seeds
    assert record.epochs.tolist() == [0, 1]
    steps = {EasinessRecord.load(tmp_path, runs=run).steps[-1].item() for run in record.runs}
    assert len(steps) > 1, "else nothing was shown"
    last = [EasinessRecord.load(tmp_path, runs=run).field("loss", -1) for run in record.runs]
    assert torch.equal(record.field("loss", -1), torch.cat(last))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        record.score("forgetting_events")
    assert not any("different steps" in str(warning.message) for warning in caught)


@pytest.mark.parametrize(("hold_out", "times"), [(0.4, 2), ("folds", 1)])
def test_each_example_is_held_out_equally_often(tmp_path: Path, hold_out: Any, times: int) -> None:
    rule = HoldOut.of("repeat_fit", hold_out, [7, 3, 11, 5, 4])
    parts = torch.stack([rule.part(seed, tmp_path / "none")(SIZE) for seed in rule.places])
    assert (parts.sum(0) == times).all()


def test_single_seed_calls_hold_out_as_one_call_does(two_fifths: Path, tmp_path: Path) -> None:
    for seed in (3, 1):
        repeat(tmp_path, 0.4, (seed,))
        assert recorded(tmp_path / f"seed-{seed}") == recorded(two_fifths / f"seed-{seed}")


def test_a_third_is_a_third() -> None:
    rule = HoldOut.of("repeat_fit", 1 / 3, [0])
    assert (rule.share, rule.name) == (Fraction(1, 3), 1 / 3)


# ------------------------------------------------------------------ what is recorded


def test_the_softmax_of_what_is_held_out_is_kept(two_fifths: Path, tmp_path: Path) -> None:
    made: list[Net] = []

    def make() -> Net:
        made.append(Net())
        return made[-1]

    record = repeat(tmp_path, 0.4, make_module=make)
    inputs = torch.stack([Points()[index][0] for index in range(SIZE)])
    with torch.no_grad():
        softmax = torch.stack([module.eval()(inputs).softmax(1) for module in made])
    expected = torch.stack([softmax[:, index][record.held_out[:, index]].mean(0) for index in range(SIZE)])
    torch.testing.assert_close(record.held_out_probabilities(), expected, atol=1e-3, rtol=0)
    assert torch.equal(EasinessRecord.load(two_fifths).held_out_probabilities(), record.held_out_probabilities())


def test_examples_that_no_run_held_out_have_no_probabilities(two_fifths: Path) -> None:
    record = EasinessRecord.load(two_fifths).select_runs([1])
    unknown = record.held_out_probabilities().isnan()
    assert torch.equal(unknown.all(1), record.trained_on[0])
    assert torch.equal(unknown.any(1), record.trained_on[0])


def test_what_is_held_out_outlives_save_and_merge(two_fifths: Path, tmp_path: Path) -> None:
    record = EasinessRecord.load(two_fifths)
    record.select_runs([0, 3]).save(tmp_path / "a")
    record.select_runs([4]).save(tmp_path / "b")
    merged = EasinessRecord.merge(EasinessRecord.load(tmp_path / "a"), EasinessRecord.load(tmp_path / "b"))
    part = record.select_runs([0, 3, 4])
    assert torch.equal(merged.held_out, part.held_out)
    assert torch.equal(merged.trained_on, part.trained_on)
    assert torch.equal(merged.held_out_probabilities().nan_to_num(-1), part.held_out_probabilities().nan_to_num(-1))


@pytest.mark.parametrize("made", [data, Data, lambda: EasinessDataModule(data()), lambda: EasinessDataModule(Data())])
def test_data_of_each_kind(tmp_path: Path, made: Any) -> None:
    given = made()
    record = repeat(tmp_path, 0.4, (0, 1), datamodule=given)
    assert torch.equal(record.trained_on, ~record.held_out)
    if isinstance(given, EasinessDataModule):
        assert given.hold_out is None, "the user's datamodule is as before"


# ------------------------------------------------------------------ what is refused


def test_several_loaders(tmp_path: Path) -> None:
    message = (
        "The `hold_out` of repeat_fit needs the training data as its `datamodule`, a LightningDataModule or the train"
        " DataLoader; got list."
    )
    with pytest.raises(TypeError, match=whole(message)):
        repeat(tmp_path, 0.4, datamodule=[data()])


def test_a_share_that_is_none_of_a_thousand(tmp_path: Path) -> None:
    """tests/first_contact/test_held_out.py has what is no share at all, and folds of one seed."""
    message = "The `hold_out` of repeat_fit must be a fraction of the examples in (0, 1), as 0.2; got 1e-09."
    with pytest.raises(ValueError, match=whole(message)):
        repeat(tmp_path, 1e-9, make_module=never)


@pytest.mark.parametrize("probe", ["val", None, loader()])
def test_without_a_pass_over_the_training_examples(tmp_path: Path, probe: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^The `hold_out` of repeat_fit needs an evaluation pass over the training examp"
    ):
        repeat(tmp_path, 0.2, make_trainer=observed(probe=probe))
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(("before", "now"), [(0.4, None), (None, 0.4), (0.4, 0.3), (0.4, "folds")])
def test_runs_on_disk_that_held_out_otherwise(tmp_path: Path, before: Any, now: Any) -> None:
    repeat(tmp_path, before, (0,))
    given = "2 folds" if now == "folds" else now
    message = (
        f"Run 'seed-0' in '{tmp_path}' was begun with hold_out={before!r}, but the `hold_out` of repeat_fit is"
        f" {given!r} now: give the same to go on, or another `dirpath`."
    )
    with pytest.raises(ValueError, match=whole(message)):
        repeat(tmp_path, now, (0, 1), make_module=never)


def test_too_few_examples(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^The `hold_out` of repeat_fit must leave each run .*; got 1/5 of 4 "):
        repeat(tmp_path, 0.2, datamodule=lambda: loader(Points(4)))
