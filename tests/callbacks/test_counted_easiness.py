"""EasinessCallback(num_draws=...): easiness counted in draws, in the record, in SET and beside exact runs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_easiness import BatchReader, EasinessCallback, EasinessDataModule, EasinessRecord, SampleEasinessTraining
from lightning_easiness.functional import easiness_level, sample_easiness
from lightning_easiness.functional.levels import default_is_wide
from tests.plain_forward import eval_forward, probed
from tests.small import Net, Points, loader, trainer

SIGMA2, DRAWS = 1e-2, 200


def exact_wins(module: Net) -> Tensor:
    points = Points()
    with torch.no_grad():
        return sample_easiness(eval_forward(module)(points.x), points.y, SIGMA2, per_class=True)


@pytest.mark.parametrize("batch_size", [3, 53])
def test_what_is_recorded_is_counted_and_within_its_sampling_error(batch_size: int, tmp_path: Path) -> None:
    module = Net()
    record = probed(tmp_path, module, sigma2=SIGMA2, num_draws=DRAWS, probe_batch_size=batch_size)
    easiness, weakest = record.sample_easiness[0, -1], record.weakest_comparison[0, -1]
    counts = weakest.double() * DRAWS
    torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-3)
    wins = exact_wins(module)
    assert not torch.equal(easiness, wins.prod(1)), "not the exact one"
    # factors are in [0, 1], so that errors of the product are at most the sum of theirs: each by Bernstein's inequality
    error = ((2 * wins * (1 - wins) * 20 / DRAWS).sqrt() + 2 * 20 / (3 * DRAWS) * (wins < 1)).sum(1)
    assert ((easiness - wins.prod(1)).abs() <= error).all()
    level = record.easiness_level(-1)[0]
    assert torch.equal(level == 0, weakest == 0), "some class beat the true one in every draw"
    assert torch.equal(level == 2, easiness == 1), "no class did in any"


class Still(Net):
    """Stays as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Linear(8, 4)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def test_batches_make_no_difference_and_steps_do(tmp_path: Path) -> None:
    module = Still()
    options: dict[str, Any] = {"sigma2": SIGMA2, "num_draws": DRAWS, "at_steps": (0,), "every_n_epochs": 1}
    twins = zip((5, 53), (module, copy.deepcopy(module)), strict=True)
    records = [probed(tmp_path / str(size), twin, **options, probe_batch_size=size) for size, twin in twins]
    five, whole = (record.sample_easiness[0] for record in records)
    torch.testing.assert_close(five, whole, rtol=0, atol=2 / DRAWS)
    assert (five == whole).float().mean() > 0.95, "sums in float32 are not always rounded alike"
    assert not torch.equal(whole[0], whole[-1]), "each pass draws anew"
    torch.testing.assert_close(records[1].loss[0, 0], records[1].loss[0, -1])


def test_runs_that_are_counted_are_not_averaged_with_exact_ones(tmp_path: Path) -> None:
    for seed, options in enumerate(({}, {"num_draws": DRAWS}, {"num_draws": DRAWS})):
        callback = EasinessCallback(tmp_path, run=f"run-{seed}", **options)
        trainer(callbacks=[callback], max_epochs=1).fit(Net(), loader())
    with pytest.warns(UserWarning, match=r"Left out: Run 'run-0'.*different recipes \(sample_easiness: none and"):
        record = EasinessRecord.load(tmp_path)
    assert record.runs == ["run-1", "run-2"]
    assert record.recipes[0]["sample_easiness"] == {"num_draws": DRAWS}


@pytest.mark.parametrize("num_draws", [0, 1.5, True, "many"])
def test_what_is_no_number_of_draws_is_refused(num_draws: Any) -> None:
    message = "The `num_draws` of EasinessCallback or BatchReader must be a whole number"
    for make in (EasinessCallback, BatchReader):
        with pytest.raises(ValueError, match=message):
            make(num_draws=num_draws)


@pytest.mark.parametrize("make", [EasinessCallback, BatchReader])
def test_of_many_draws_the_default_tolerance_is_warned_of_once(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_easiness._utils.warnings._said", set())
    for num_draws in (None, 1, 1000, 1999):
        make(num_draws=num_draws)  # a warning is an error
    message = r"^With num_draws=10000 the default `tol` of 0.0005 calls .* with `tol=1/\(2\*num_draws\)`, 5e-05, as"
    with pytest.warns(UserWarning, match=message):
        make(num_draws=10_000)
    make(num_draws=10_000)


def test_a_record_of_many_draws_warns_of_the_default_tolerance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_easiness._utils.warnings._said", set())
    with pytest.warns(UserWarning, match="the shares that are logged go by the default"):
        record = probed(tmp_path, Net(), sigma2=SIGMA2, num_draws=2000)
    level = record.easiness_level(-1, 1 / 4000)[0]  # a warning is an error
    assert torch.equal(level == 0, record.weakest_comparison[0, -1] == 0), "some class won every draw"
    with pytest.warns(UserWarning, match=r"^With num_draws=2000 .* as in record.easiness_level\(tol=...\).$"):
        record.easiness_level(-1)


@pytest.mark.parametrize(("num_draws", "is_wide"), [(1000, False), (1999, False), (2000, True), (10_000, True)])
def test_the_default_tolerance_is_too_wide_where_one_win_is_hard(num_draws: int, is_wide: bool) -> None:
    one_win = torch.tensor([1 / num_draws])
    assert (int(easiness_level(one_win, weakest_comparison=one_win)) == 0) == is_wide
    assert (default_is_wide(num_draws) is not None) == is_wide
    assert int(easiness_level(one_win, 1 / (2 * num_draws), weakest_comparison=one_win)) == 1


@pytest.mark.parametrize("per", ["epoch", "batch"])
def test_training_by_levels_goes_by_what_is_counted(per: str) -> None:
    """In one draw each comparison is won or lost, so that no example is medium."""
    chosen: list[int] = []

    class Counts(SampleEasinessTraining):
        def select(self, state: Any) -> Tensor:
            kept = super().select(state)
            if state.observed is not None:
                assert set(state.observed["weakest_comparison"].unique().tolist()) <= {0.0, 1.0}
                chosen.append(len(kept))
            return kept

    selection = Counts(early_epochs=1, per=per)
    data = EasinessDataModule(loader(), selection, reader=BatchReader(num_draws=1, sigma2=SIGMA2))
    trainer(max_epochs=2).fit(Net(), datamodule=data)
    assert chosen
    assert not any(chosen)
