"""What a fit shows as it goes on: sums against the record, a fit that is resumed, how often images are drawn."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor

from lightning_easiness import EasinessCallback, EasinessRecord
from lightning_easiness.callbacks.history import Ends, History
from lightning_easiness.functional import matching_rate
from tests.boards import read_events, scalars
from tests.small import Net, Points, loader, trainer


class Images(Points):
    """Examples that are images, of classes with names."""

    classes = ("ant", "bee", "cow", "doe")

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index].view(1, 2, 4), int(self.y[index])


class OfImages(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1))


def board(folder: Path) -> TensorBoardLogger:
    return TensorBoardLogger(folder, name="board", version="0")


def fit(folder: Path, max_epochs: int = 3, ckpt_path: Any = None, logger: Any = None, **options: Any) -> Any:
    seed_everything(3, verbose=False)
    options = {"every_n_epochs": 1, **options}
    callbacks = [EasinessCallback(folder / "record", run="run", **options), ModelCheckpoint(folder, save_last=True)]
    logger = board(folder) if logger is None else logger
    made = trainer(callbacks=callbacks, logger=logger, max_epochs=max_epochs, enable_checkpointing=True)
    made.fit(OfImages(), loader(Images()), loader(Images(20), shuffle=False), ckpt_path=ckpt_path)
    return read_events(board(folder))


def ends(loss: Tensor) -> dict[str, Tensor]:
    order = loss.argsort()
    return {"easiest": order[:5], "hardest": order[-5:]}  # a tenth of 53


def expected_rates(folder: Path, series: str) -> dict[str, list[tuple[int, float]]]:
    record = EasinessRecord.load(folder / "record", series)
    steps, sets = [step - 1 for step in record.steps.tolist()], [ends(loss) for loss in record.loss[0]]
    rate = lambda end, i, j: pytest.approx(float(matching_rate(sets[i][end], sets[j][end])))  # noqa: E731
    count, found = len(steps), {}
    for end in ("easiest", "hardest"):
        found[f"{end}_with_previous"] = [(steps[i], rate(end, i, i - 1)) for i in range(1, count)]
        found[f"{end}_with_last"] = [(steps[i], rate(end, i, -1)) for i in range(count - 1)]
    return {f"easiness-matching/{series}/{name}": values for name, values in found.items()}


@pytest.mark.parametrize("stopped", [None, 1, 2])
def test_matching_rates_with_the_previous_and_the_last_checkpoint(stopped: int | None, tmp_path: Path) -> None:
    """Also of a fit that is resumed, which goes on with the checkpoints on disk."""
    if stopped:
        fit(tmp_path, stopped)
        for path in (tmp_path / "board" / "0").glob("events*"):
            path.unlink()
    events = fit(tmp_path, 4, tmp_path / "last.ckpt" if stopped else None)
    for series in ("train-online", "train-probe"):
        for tag, values in expected_rates(tmp_path, series).items():
            first = 7 * (stopped or 0) if tag.endswith("previous") else 0  # what comes before is in the log of before
            assert scalars(events, tag) == [(step, rate) for step, rate in values if step >= first], tag


def test_sums_over_checkpoints_are_the_scores_of_the_record(tmp_path: Path) -> None:
    fit(tmp_path, 3, at_steps=(0, 5))
    for series in ("train-online", "train-probe"):
        record, history = EasinessRecord.load(tmp_path / "record", series), History(53)
        history.restore(tmp_path / "record" / "run", series, before=10**9)
        assert history.num_checkpoints == record.num_checkpoints >= 3
        for name in ("confidence", "variability", "correctness", "area_under_margin"):
            found = getattr(history, name).float()
            torch.testing.assert_close(found, record.score(name).values.float(), atol=1e-4, rtol=1e-4)
        p = (-record.loss[0]).exp()
        torch.testing.assert_close(history.change, p[-1] - p[-2])


def test_examples_that_are_not_seen_in_an_epoch_do_not_count() -> None:
    history = History(2)
    for loss, count in ((1.0, 1), (torch.nan, 0), (3.0, 2)):
        fields = {
            "loss": torch.tensor([loss, torch.nan]),
            "margin": torch.tensor([loss, torch.nan]),
            "correct": torch.tensor([loss == 1.0, False]),
            "count": torch.tensor([count, 0], dtype=torch.int32),
        }
        history.add(fields, 0, 0, "cross_entropy")
    assert history.area_under_margin[0] == 2
    assert history.correctness[0] == 0.5
    assert history.confidence[0] == pytest.approx((torch.tensor([-1.0, -3.0]).exp().mean()).item())
    for values in (history.area_under_margin, history.correctness, history.confidence, history.variability):
        assert values[1].isnan()


@pytest.mark.parametrize("length", [1, 7, 1000])
def test_parts_of_any_length_add_up_to_the_bits_of_one(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_easiness._utils.blocks.LENGTH", length)
    torch.manual_seed(0)
    history, p, margins, right = History(40), torch.zeros(2, 40).double(), torch.zeros(40).double(), torch.zeros(40)
    for step in range(3):
        loss, margin, correct = torch.rand(40), torch.randn(40), torch.rand(40) < 0.5
        loss[::7] = torch.tensor([torch.nan, torch.inf, -0.0, torch.nan, 0.5, 0.5])
        history.add({"loss": loss, "margin": margin, "correct": correct}, step, step, "cross_entropy")
        seen = ~loss.isnan()
        found = (-loss.double()).exp().where(seen, 0.0)
        p += torch.stack([found, found.square()])
        margins, right = margins + margin.double().where(seen, 0.0), right + (correct & seen)
    seen = torch.full((40,), 3).index_fill(0, torch.tensor([0, 21]), 0)
    assert torch.equal(history.confidence.nan_to_num(), (p[0] / seen).nan_to_num())
    spread = (p[1] / seen - (p[0] / seen).square()).clamp(min=0).sqrt()
    assert torch.equal(history.variability.nan_to_num(), spread.nan_to_num())
    assert torch.equal(history.area_under_margin.nan_to_num(), (margins / seen).nan_to_num())
    assert torch.equal(history.correctness.nan_to_num(), (right / seen).nan_to_num())


@pytest.mark.parametrize("levels", [2, 5, 10**6])
def test_the_ends_are_the_lowest_and_the_highest_losses_that_are_known(levels: int) -> None:
    torch.manual_seed(0)
    loss = torch.randint(levels, (50,)).float()
    loss[::6] = torch.nan
    found = Ends.of(loss, 0)
    assert found is not None
    known = loss[~loss.isnan()].sort().values
    for bits, expected in ((found.easiest, known[:5]), (found.hardest, known[-5:])):
        chosen = torch.from_numpy(np.unpackbits(bits, count=50).astype(bool))
        assert torch.equal(loss[chosen].sort().values, expected)
    assert Ends.of(torch.full((50,), torch.nan), 0) is None


def test_where_infinite_losses_tie_none_that_is_unknown_is_drawn() -> None:
    loss = torch.full((50,), torch.nan)
    loss[:8] = torch.inf
    loss[0] = 1.0
    found = Ends.of(loss, 0)
    assert found is not None
    for bits in (found.easiest, found.hardest):
        chosen = np.flatnonzero(np.unpackbits(bits, count=50))
        assert len(chosen) == 5
        assert chosen.max() < 8


def test_images_are_drawn_about_ten_times_and_for_the_last_checkpoint(tmp_path: Path) -> None:
    events = fit(tmp_path, 25, num_images=3)
    tags = events.Tags()["images"]
    names = ("data_map", "easiest", "hardest", "most_changed", "suspects")
    assert set(tags) == {"easiness/train-online/data_map", *(f"easiness/train-probe/{name}" for name in names)}
    for tag in tags:
        steps = [image.step for image in events.Images(tag)]
        assert 9 <= len(steps) <= 11, tag
        assert steps[-1] == 25 * 7 - 1


def test_a_fit_that_stops_early_draws_its_last_checkpoint(tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import EarlyStopping

    seed_everything(3, verbose=False)
    stop = EarlyStopping("easiness/train-probe/mean_loss", patience=3, min_delta=99.0)
    observer = EasinessCallback(tmp_path / "record", every_n_epochs=1)
    made = trainer(callbacks=[observer, stop], logger=board(tmp_path), max_epochs=100)
    made.fit(OfImages(), loader(Images()))
    assert made.current_epoch == 4
    images = read_events(board(tmp_path)).Images("easiness/train-probe/hardest")
    assert [image.step for image in images] == [6, 27]


def test_what_the_tags_mean_is_written_once_and_says_where_the_record_is(tmp_path: Path) -> None:
    fit(tmp_path, 1)
    events = fit(tmp_path, 3, tmp_path / "last.ckpt")
    (card,) = events.Tensors("easiness/about/text_summary")
    text = card.tensor_proto.string_val[0].decode()
    assert f"lightning-easiness issues {tmp_path / 'record'}" in text
    assert len(events.Tensors("custom_scalars__config__")) == 1
    shown = {tag for kind in ("scalars", "images", "histograms") for tag in events.Tags()[kind]}
    for tag in shown:
        if tag.startswith("easiness"):
            assert f"{tag.rsplit('/', 1)[-1]}`" in text, tag


def test_the_users_own_charts_are_left_alone(tmp_path: Path) -> None:
    logger = board(tmp_path)
    logger.experiment.add_custom_scalars({"mine": {"loss": ["Multiline", ["val_loss"]]}})
    (layout,) = fit(tmp_path, 1, logger=logger).Tensors("custom_scalars__config__")
    assert b"mine" in layout.tensor_proto.string_val[0]


def test_nothing_is_kept_where_there_is_no_logger(tmp_path: Path) -> None:
    callback = EasinessCallback(tmp_path / "record", every_n_epochs=1)
    trainer(callbacks=[callback]).fit(OfImages(), loader(Images()))
    assert not callback._log._histories


def test_only_numbers_in_a_table(tmp_path: Path) -> None:
    table = CSVLogger(tmp_path, name="table", version="")
    seed_everything(3, verbose=False)
    callbacks = [EasinessCallback(tmp_path / "record", every_n_epochs=1)]
    trainer(callbacks=callbacks, logger=table, max_epochs=3).fit(OfImages(), loader(Images()))
    header = (tmp_path / "table" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"easiness-levels/train-probe/easy", "easiness-matching/train-probe/hardest_with_last"} <= set(header)


def test_a_logger_that_fails_stops_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_easiness._utils.warnings._said", set())

    def fails(*args: Any, **options: Any) -> None:
        raise ConnectionError("no route to host")

    logger = board(tmp_path)
    for name in ("add_image", "add_histogram_raw", "add_text"):
        monkeypatch.setattr(logger.experiment, name, fails)
    with pytest.warns(UserWarning, match="could not be logged .ConnectionError: no route to host") as seen:
        fit(tmp_path, 2, logger=logger)
    assert len([one for one in seen if "could not be logged" in str(one.message)]) == 1
    assert EasinessRecord.load(tmp_path / "record", "train-probe").num_checkpoints == 2


def test_resuming_warns_of_nothing(tmp_path: Path) -> None:
    fit(tmp_path, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", message=".*(dataloader|num_workers|Checkpoint directory|logging interval).*")
        fit(tmp_path, 2, tmp_path / "last.ckpt")
