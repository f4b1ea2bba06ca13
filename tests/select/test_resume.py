"""Contract 3 for SampleEasinessTraining: stopped at any batch and resumed equals never stopped, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import Tensor

from lightning_easiness import BatchReader, EasinessCallback, EasinessDataModule, SampleEasinessTraining
from tests.resuming import SIZE, Plain, Resumable, Stop
from tests.set_fits import SIGMA2
from tests.small import trainer

READER = BatchReader(sigma2=SIGMA2)
EPOCHS = 5


class Share(Callback):
    """Makes sure that a selection is at work."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.sizes.append(len(set(pl_module.weight_of(trainer.current_epoch))))


RULES: dict[str, dict[str, Any]] = {
    "each epoch, beside the callback": {"observed": True},
    "by loss, every other epoch": {"rescore_every_n_epochs": 2, "by": "loss"},
    "with weights": {"others_share": 0.4, "final_epochs": 1},
    "with weights, every other epoch, steps asked for": {
        "others_share": 0.4,
        "rescore_every_n_epochs": 2,
        "asks": True,
    },
    "online": {"online": True, "rescore_every_n_epochs": None, "observed": True},
    "online and every other epoch": {
        "online": True,
        "rescore_every_n_epochs": 2,
        "observed": True,
        "others_share": 0.4,
    },
    "per batch": {"per": "batch", "others_share": 0.4},
    "per batch, beside the callback": {"per": "batch", "observed": True},
}


def fit(rule: str, folder: Path, others: Any = (), ckpt_path: Path | None = None, first: bool = True) -> Plain:
    options = dict(RULES[rule])
    observed, asks = options.pop("observed", False), options.pop("asks", False)
    selection = SampleEasinessTraining(**{"early_epochs": 1, **options})
    seed_everything(1, verbose=False)
    callbacks = list(others)
    if observed:
        observer = EasinessCallback(folder, run="only", probe=None if options.get("online") else "train", sigma2=SIGMA2)
        callbacks = [*callbacks, observer] if first else [observer, *callbacks]
    module = Plain(asks)
    made = trainer(max_epochs=EPOCHS, callbacks=callbacks)
    made.fit(
        module,
        datamodule=EasinessDataModule(Resumable(), selection, reader=None if observed else READER),
        ckpt_path=ckpt_path,
    )
    return module


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Plain]:
    """The fits that were never stopped."""
    made = {}
    for number, rule in enumerate(RULES):
        share = Share()
        made[rule] = fit(rule, tmp_path_factory.mktemp(f"whole-{number}"), [share])
        assert share.sizes[0] == SIZE
        assert sum(size < SIZE for size in share.sizes) >= 2, (rule, share.sizes)
    return made


def assert_goes_on(whole: Plain, module: Plain, epoch: int, done: int) -> None:
    """The batches that were left, with their weights, and in the end the same weights of the model."""
    expected = [step for step in whole.steps if step[0] >= epoch]
    expected = expected[done:]
    assert [(step[0], step[1]) for step in module.steps] == [(step[0], step[1]) for step in expected]
    for ours, theirs in zip(module.steps, expected, strict=True):
        for mine, other in zip(ours[2:], theirs[2:], strict=True):
            assert (mine is None) == (other is None)
            assert mine is None or torch.equal(mine, other)
    for name, value in module.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name


# of the early epoch and of those that are selected; of each the first batch, one in the middle, and the last
STOPS = {
    "saved before us": [(0, 3), (0, -1), (1, 0), (2, 1), (2, -1), (3, -1), (4, -1)],
    "saved after us": [(0, -1), (2, 1), (2, -1)],  # where there is a callback to be before or after
}
ORDERED = [(order, rule) for order in STOPS for rule in RULES if "before" in order or RULES[rule].get("observed")]


@pytest.mark.parametrize(("order", "rule"), ORDERED)
def test_stopped_at_a_batch(order: str, rule: str, wholes: dict[str, Plain], tmp_path: Path) -> None:
    failed, first = {}, order == "saved before us"
    for epoch, batch in STOPS[order]:
        if (epoch, batch) == (0, 3) and RULES[rule].get("asks"):
            continue  # Lightning itself forgets a loader's place in epoch 0 where the number of steps is asked for
        saved, folder = tmp_path / f"{epoch}-{batch}.ckpt", tmp_path / f"{epoch}-{batch}"
        with pytest.raises(InterruptedError):
            fit(rule, folder, [Stop(saved, epoch, batch, "batch")], first=first)
        torch.load(saved, weights_only=True)
        module = fit(rule, folder, ckpt_path=saved)
        batches = [step for step in wholes[rule].steps if step[0] == epoch]
        try:
            assert_goes_on(wholes[rule], module, epoch, batch % len(batches) + 1)
        except AssertionError as error:
            failed[epoch, batch] = str(error)[:300]
    assert not failed


@pytest.mark.parametrize(("order", "rule"), ORDERED)
def test_stopped_at_an_epochs_end(order: str, rule: str, wholes: dict[str, Plain], tmp_path: Path) -> None:
    failed, first = {}, order == "saved before us"
    for epoch in (0, 2):
        saved, folder = tmp_path / f"{epoch}.ckpt", tmp_path / f"{epoch}"
        with pytest.raises(InterruptedError):
            fit(rule, folder, [Stop(saved, epoch, 0, "epoch")], first=first)
        torch.load(saved, weights_only=True)
        try:
            assert_goes_on(wholes[rule], fit(rule, folder, ckpt_path=saved), epoch + 1, 0)
        except AssertionError as error:
            failed[epoch] = str(error)[:300]
    assert not failed


def test_the_state_is_what_is_needed_and_no_more(wholes: dict[str, Plain], tmp_path: Path) -> None:
    """Tensors and plain types; a bit an example for the choice, and what is remembered."""
    with pytest.raises(InterruptedError):
        fit("online and every other epoch", tmp_path, [Stop(tmp_path / "a.ckpt", 3, 0, "batch")])
    state = torch.load(tmp_path / "a.ckpt", weights_only=True)["EasinessDataModule"]
    assert set(state) == {"selection", "remembered"}
    assert {name: values.shape for name, values in state["remembered"].items()} == {"sample_easiness": (SIZE,)}
    assert len(state["selection"]["kept"]) == -(-SIZE // 8)
    assert state["selection"]["weights"].shape == (SIZE,)
    with pytest.raises(InterruptedError):
        fit("per batch", tmp_path, [Stop(tmp_path / "b.ckpt", 3, 0, "batch")])
    assert "EasinessDataModule" not in torch.load(tmp_path / "b.ckpt", weights_only=True)


def test_the_weights_are_taken_up_in_the_epoch_that_goes_on(wholes: dict[str, Plain], tmp_path: Path) -> None:
    saved = tmp_path / "a.ckpt"
    with pytest.raises(InterruptedError):
        fit("with weights", tmp_path, [Stop(saved, 2, 0, "batch")])
    module = fit("with weights", tmp_path, ckpt_path=saved)
    given: dict[int, float] = module.weight_of(2)
    whole: dict[int, float] = wholes["with weights"].weight_of(2)
    assert len(set(given.values())) > 1
    assert all(whole[i] == weight for i, weight in given.items())
    weights: list[Tensor | None] = [weight for epoch, _, _, weight in module.steps if epoch == 4]
    assert weights == [None] * 7, "the final epoch"
