"""The probe: its numbers, when it is made, what it reads, and that training does not notice."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from torch import Tensor, nn

from lightning_easiness import EasinessCallback, EasinessRecord
from lightning_easiness.functional import shuffle_tiles
from tests.plain_forward import Snapshots, check, eval_forward, probed
from tests.small import Net, Points, loader, trainer

# ---------------------------------------------------------------------------------------------- the numbers


def test_every_field_at_every_checkpoint(tmp_path: Path) -> None:
    kept, module = Snapshots(), Net()
    observer = EasinessCallback(tmp_path, every_n_epochs=1, at_steps=(0, 3))
    trainer(callbacks=[kept, observer]).fit(module, loader())
    record = EasinessRecord.load(tmp_path)
    assert (record.steps.tolist(), record.epochs.tolist()) == ([0, 3, 7, 14], [0, 0, 0, 1])
    assert (record.num_examples, record.num_classes, record.loss_name) == (53, 4, "cross_entropy")
    for checkpoint, step in enumerate(record.steps.tolist()):
        check(record, checkpoint, eval_forward(module, kept.weights[step]), Points())
    assert not torch.equal(record.loss[0, 0], record.loss[0, -1])


@pytest.mark.parametrize("size", [1, 7, 100])
def test_probe_batch_size(size: int, tmp_path: Path) -> None:
    module, sizes = Net(), []
    patterns = {"spied": lambda x: sizes.append(len(x)) or x}
    record = probed(tmp_path, module, probe_batch_size=size, patterns=patterns)
    tried, *sizes = sizes
    assert tried == min(size, 53)
    assert sizes == [len(part) for part in torch.arange(53).split(size)]
    check(record, -1, eval_forward(module), Points())


@pytest.mark.parametrize(
    ("every_n_epochs", "at_steps", "steps"),
    [
        (1, (), [7, 14, 21]),
        (2, (), [14]),
        (0, (0,), [0]),
        (0, [5, 5, 100], [5]),
        (3, (21,), [21]),
        (1, (7, 8), [7, 8, 14, 21]),
        (2, range(0, 30, 10), [0, 10, 14, 20]),
    ],
)
def test_when_it_is_made(every_n_epochs: int, at_steps: Any, steps: list[int], tmp_path: Path) -> None:
    record = probed(tmp_path, fit={"max_epochs": 3}, every_n_epochs=every_n_epochs, at_steps=at_steps)
    assert record.steps.tolist() == steps


def test_steps_are_those_of_the_optimizer(tmp_path: Path) -> None:
    """Seven batches an epoch by twos are four steps, the last of them of one batch."""
    record = probed(tmp_path, fit={"max_epochs": 2, "accumulate_grad_batches": 2}, at_steps=(0, 1, 3, 4, 5))
    assert (record.steps.tolist(), record.epochs.tolist()) == ([0, 1, 3, 4, 5, 8], [0, 0, 0, 0, 1, 1])


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_precision_is_the_trainers(precision: str, tmp_path: Path) -> None:
    module = Net()
    record = probed(tmp_path, module, fit={"precision": precision})
    module.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        logits = module.net(Points().x.to(module.net[0].weight.dtype)).float()
    losses = nn.functional.cross_entropy(logits, Points().y, reduction="none")
    torch.testing.assert_close(record.loss[0, -1], losses, atol=2e-2 if "bf16" in precision else 1e-6, rtol=0)
    if "bf16" in precision:
        exact = nn.functional.cross_entropy(copy.deepcopy(module).float().net(Points().x), Points().y, reduction="none")
        assert not torch.allclose(record.loss[0, -1], exact, atol=1e-5)


# ---------------------------------------------------------------------------------------------- what is probed


@pytest.mark.parametrize("sanity", [0, 2])
def test_validation_examples(sanity: int, tmp_path: Path) -> None:
    module, points = Net(), Points(21, seed=5)
    observer = EasinessCallback(tmp_path, every_n_epochs=1, probe="val", at_steps=(0,))
    trainer(callbacks=[observer], num_sanity_val_steps=sanity).fit(module, loader(), loader(points, shuffle=False))
    record = EasinessRecord.load(tmp_path, series="val-probe")
    assert record.steps.tolist() == [0, 7, 14]
    check(record, -1, eval_forward(module), points)
    assert EasinessRecord.load(tmp_path, series="train-online").num_examples == 53


def test_a_pattern_is_a_series_of_its_own(tmp_path: Path) -> None:
    module = Net()
    record = probed(tmp_path, module, patterns={"halved": lambda x: x / 2, "flipped": lambda x: -x}, at_steps=(0,))
    forward = eval_forward(module)
    check(record, -1, forward, Points())
    for name, factor in (("halved", 0.5), ("flipped", -1.0)):
        shown = EasinessRecord.load(tmp_path, series=f"train-probe-{name}")
        assert shown.steps.tolist() == record.steps.tolist()
        check(shown, -1, lambda x, factor=factor: forward(factor * x), Points())  # type: ignore[misc]


def tiled(x: torch.Tensor) -> torch.Tensor:
    """Eight inputs as two channels of 2 x 2 tiles."""
    return shuffle_tiles(x.view(-1, 2, 2, 2), 0.5).flatten(1)


@pytest.mark.parametrize("size", [1, 8, 53])
def test_a_pattern_that_draws_does_so_for_each_example_alike_in_each_pass_and_batch(size: int, tmp_path: Path) -> None:
    module = Net()
    options = {"patterns": {"tiles": tiled, "plain": lambda x: x}, "probe_batch_size": size, "at_steps": (0,)}
    probed(tmp_path, module, **options)
    shown = EasinessRecord.load(tmp_path, series="train-probe-tiles")
    whole = tiled(Points().x)  # each example by its index
    expected = nn.functional.cross_entropy(eval_forward(module)(whole), Points().y, reduction="none")
    torch.testing.assert_close(shown.loss[0, -1].float(), expected, rtol=1e-4, atol=1e-5, check_dtype=False)
    assert not torch.equal(shown.loss[0, -1], EasinessRecord.load(tmp_path, series="train-probe-plain").loss[0, -1])


# ---------------------------------------------------------------------------------------------- at rest


class Still(Net):
    """Learns nothing, so that its probes differ by what they are shown alone."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 4))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def test_augmentations_are_the_same_at_every_pass(tmp_path: Path) -> None:
    """Of the global streams, with and without workers; they go by the batch, so other batches mean other views."""
    seed_everything(1, verbose=False)
    module, losses = Still(), {}
    for name, workers, size in (("alone", 0, None), ("workers", 2, None), ("again", 0, None), ("other batches", 0, 5)):
        data = loader(Points(augment=True), num_workers=workers)
        record = probed(tmp_path / name, module, data, at_steps=(0, 3), probe_batch_size=size)
        losses[name] = record.loss[0, 0]
        assert torch.equal(record.loss[0], losses[name].expand(3, -1))
    assert torch.equal(losses["alone"], losses["workers"])
    assert torch.equal(losses["alone"], losses["again"])
    assert not torch.equal(losses["alone"], losses["other batches"])
    plain = nn.functional.cross_entropy(module(Points().x), Points().y, reduction="none").detach()
    assert len((losses["alone"] - plain).round(decimals=5).unique()) > 40, "each example is augmented on its own"


class HoldsGenerator(Points):
    def __init__(self) -> None:
        super().__init__()
        self.noise = np.random.default_rng(0)

    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return x + float(self.noise.normal()), y


def test_augmentations_of_the_data_sets_own_generator_are_those_of_the_moment(tmp_path: Path) -> None:
    """They cannot be set; two passes at one moment see the same, as the first gives the generator back."""
    observers = [EasinessCallback(tmp_path / name, at_steps=(0, 3), online=False) for name in "ab"]
    trainer(callbacks=observers, max_epochs=1).fit(Still(), loader(HoldsGenerator()))
    first, second = (EasinessRecord.load(tmp_path / name).loss[0] for name in "ab")
    assert torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


def test_modes_during_and_after(tmp_path: Path) -> None:
    seen: list[tuple[bool, bool, bool, bool]] = []

    class KeepsModes(Net):
        def forward(self, x: Tensor) -> Tensor:
            modes = [part.training for part in self.modules()]
            seen.append((any(modes), torch.is_grad_enabled(), self.trainer.training, self.trainer.validating))
            return super().forward(x)

        def on_train_epoch_start(self) -> None:
            self.net[3].eval()

    class After(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            assert [part.training for part in pl_module.net] == [True, True, True, False, True]
            assert trainer.training
            assert torch.is_grad_enabled()

    module = KeepsModes()
    observer = EasinessCallback(tmp_path, at_steps=range(10))
    trainer(callbacks=[observer, After()], max_epochs=1).fit(module, loader())
    in_training, in_probe = (True, True, True, False), (False, False, False, True)
    in_trial = (False, True, False, True)  # with gradients, whose graph shows how the outputs end
    assert seen[0] == in_trial
    assert set(seen[1:]) == {in_training, in_probe}
    assert seen.count(in_probe) == 8 * 7  # at the start and after each of the 7 batches
    assert seen[1:8] == [in_probe] * 7
    assert module.net[0].weight.requires_grad


# ---------------------------------------------------------------------------------------------- around it


@pytest.mark.parametrize("make_bar", [TQDMProgressBar, RichProgressBar])
def test_progress_bars(make_bar: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    observer = EasinessCallback(tmp_path, at_steps=(0, 3))
    trainer(callbacks=[observer, make_bar()], enable_progress_bar=True, max_epochs=1).fit(Net(), loader())
    assert EasinessRecord.load(tmp_path, "train-probe").steps.tolist() == [0, 3, 7]
    assert make_bar is RichProgressBar or "Easiness:  " in capsys.readouterr().out
