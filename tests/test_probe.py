"""The probe: its numbers are those of a plain forward in eval mode, whatever the loader and the model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, seed_everything
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler, default_collate

from lightning_easiness import EasinessCallback, EasinessRecord
from tests.small import Net, Points, loader, trainer

FIELDS = ("loss", "correct", "margin", "sample_easiness", "el2n")


def expected(logits: list[float], target: int, sigma2: float = 1e-4) -> dict[str, float]:
    """All fields of one example, by plain arithmetic on floats."""
    exps = [math.exp(value - max(logits)) for value in logits]
    softmax = [value / sum(exps) for value in exps]
    easiness = 1.0
    for k, other in enumerate(softmax):
        if k != target:
            easiness *= 0.5 * math.erfc(-(softmax[target] - other) / math.sqrt(2 * sigma2) / math.sqrt(2))
    return {
        "loss": -math.log(softmax[target]),
        "correct": float(max(range(len(logits)), key=lambda k: logits[k]) == target),
        "margin": logits[target] - max(value for k, value in enumerate(logits) if k != target),
        "sample_easiness": easiness,
        "el2n": math.sqrt(sum((value - (k == target)) ** 2 for k, value in enumerate(softmax))),
    }


def check(record: EasinessRecord, checkpoint: int, forward: Callable[[Tensor], Tensor], points: Points) -> None:
    """Holds a checkpoint against one forward an example."""
    assert record.fields == FIELDS
    assert record.target.tolist() == points.y.tolist()
    fields = {name: record.field(name, checkpoint)[0] for name in FIELDS}
    assert {name: values.dtype for name, values in fields.items()} == {
        name: torch.bool if name == "correct" else torch.float32 for name in FIELDS
    }
    for index in range(len(points)):
        with torch.no_grad():
            logits = forward(points.x[index : index + 1])[0].double().tolist()
        for name, value in expected(logits, int(points.y[index])).items():
            # easiness divides differences of probabilities by 0.014
            tolerance = 2e-4 if name == "sample_easiness" else 1e-5
            assert float(fields[name][index]) == pytest.approx(value, abs=tolerance), (name, index)


def eval_forward(module: Net, weights: dict[str, Tensor] | None = None) -> Callable[[Tensor], Tensor]:
    """The forward of the usual net in eval mode, without any Trainer."""
    twin = Net()
    twin.load_state_dict(module.state_dict() if weights is None else weights)
    return twin.eval().net


class Snapshots(Callback):
    """Keeps the weights after each optimizer step."""

    def __init__(self) -> None:
        self.weights: dict[int, dict[str, Tensor]] = {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.weights[trainer.global_step] = copy.deepcopy(pl_module.state_dict())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.on_train_start(trainer, pl_module)


def probed(
    folder: Path, module: Any = None, data: Any = None, /, fit: dict[str, Any] | None = None, **options: Any
) -> EasinessRecord:
    """The record of a fit of one epoch."""
    module, data = module or Net(), data if data is not None else loader()
    callback = EasinessCallback(folder, **{"online": False, **options})
    trainer(callbacks=[callback], **{"max_epochs": 1, **(fit or {})}).fit(module, data)
    return EasinessRecord.load(folder, series=callback.series)


# ---------------------------------------------------------------------------------------------- the numbers


def test_every_field_at_every_checkpoint(tmp_path: Path) -> None:
    kept, module = Snapshots(), Net()
    observer = EasinessCallback(tmp_path, at_steps=(0, 3))
    trainer(callbacks=[kept, observer]).fit(module, loader())
    record = EasinessRecord.load(tmp_path)
    assert (record.steps.tolist(), record.epochs.tolist()) == ([0, 3, 7, 14], [0, 0, 0, 1])
    assert (record.num_examples, record.num_classes, record.loss_name) == (53, 4, "cross_entropy")
    for checkpoint, step in enumerate(record.steps.tolist()):
        check(record, checkpoint, eval_forward(module, kept.weights[step]), Points())
    assert not torch.equal(record.loss[0, 0], record.loss[0, -1])


@pytest.mark.parametrize("size", [1, 7, 53, 100])
def test_probe_batch_size(size: int, tmp_path: Path) -> None:
    module, sizes = Net(), []

    def spy(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return x

    record = probed(tmp_path, module, probe_batch_size=size, patterns={"spied": spy})
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
    observer = EasinessCallback(tmp_path, probe="val", at_steps=(0,))
    trainer(callbacks=[observer], num_sanity_val_steps=sanity).fit(module, loader(), loader(points, shuffle=False))
    record = EasinessRecord.load(tmp_path, series="val-probe")
    assert record.steps.tolist() == [0, 7, 14]
    check(record, -1, eval_forward(module), points)
    assert EasinessRecord.load(tmp_path, series="train-online").num_examples == 53


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[Any]:
        return (Points()[index] for index in range(53))


def test_a_loader_of_its_own_beside_a_stream(tmp_path: Path) -> None:
    module, points = Net(), Points(19, seed=2)
    record = probed(tmp_path, module, DataLoader(Stream(), batch_size=8), probe=loader(points, batch_size=5))
    assert record.series == "loader-probe"
    check(record, -1, eval_forward(module), points)


def test_a_loader_of_its_own_beside_several(tmp_path: Path) -> None:
    class Several(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step(batch["a"], batch_idx) + super().training_step(batch["b"], batch_idx)

    module, points = Several(), Points(19, seed=2)
    record = probed(tmp_path, module, {"a": loader(), "b": loader()}, probe=loader(points))
    check(record, -1, eval_forward(module), points)


def test_a_pattern_is_a_series_of_its_own(tmp_path: Path) -> None:
    module = Net()
    record = probed(tmp_path, module, patterns={"halved": lambda x: x / 2, "flipped": lambda x: -x}, at_steps=(0,))
    forward = eval_forward(module)
    check(record, -1, forward, Points())
    for name, factor in (("halved", 0.5), ("flipped", -1.0)):
        shown = EasinessRecord.load(tmp_path, series=f"train-probe-{name}")
        assert shown.steps.tolist() == record.steps.tolist()
        check(shown, -1, lambda x, factor=factor: forward(factor * x), Points())  # type: ignore[misc]


# ---------------------------------------------------------------------------------------------- loaders and batches


class Lists(Points):
    """Is asked for whole batches."""

    def __getitem__(self, indices: Any) -> Any:
        return default_collate([super(Lists, self).__getitem__(index) for index in indices])


def as_mapping(examples: list[Any]) -> dict[str, Tensor]:
    x, y = default_collate(examples)
    return {"pixel_values": x, "labels": y, "id": torch.arange(len(y))}


def as_named(examples: list[Any]) -> Any:
    x, y = default_collate(examples)
    return SimpleNamespace(seen=x, wanted=y)


class Wide(Net):
    """Takes (x, y), a mapping or an object."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if isinstance(batch, dict):
            batch = (batch["pixel_values"], batch["labels"])
        elif isinstance(batch, SimpleNamespace):
            batch = (batch.seen, batch.wanted)
        return super().training_step(batch[:2], batch_idx)


def whole_lists(points: Points) -> DataLoader:
    return DataLoader(points, batch_size=None, sampler=BatchSampler(SequentialSampler(points), 9, drop_last=False))


LOADERS: dict[str, Callable[[], Any]] = {
    "two workers": lambda: loader(num_workers=2),
    "drop last": lambda: loader(drop_last=True),
    "a batch sampler": lambda: DataLoader(
        Points(), batch_sampler=BatchSampler(SequentialSampler(Points()), 9, drop_last=True)
    ),
    "a batch sampler without a size": lambda: DataLoader(Points(), batch_sampler=[[3, 1], [4, 1, 5, 9]]),
    "whole index lists": lambda: whole_lists(Lists()),
    "a mapping": lambda: loader(collate_fn=as_mapping),
    "three parts": lambda: loader(collate_fn=lambda examples: [*default_collate(examples), torch.zeros(3)]),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_every_loader(kind: str, tmp_path: Path) -> None:
    module = Wide()
    record = probed(tmp_path, module, LOADERS[kind](), online=True)
    check(record, -1, eval_forward(module), Points())


def test_batch_fn_for_any_other_batch(tmp_path: Path) -> None:
    module = Wide()
    data = loader(collate_fn=as_named)
    record = probed(tmp_path, module, data, online=True, batch_fn=lambda batch: (batch.seen, batch.wanted))
    check(record, -1, eval_forward(module), Points())


def test_a_mapping_without_known_inputs_is_given_as_keywords(tmp_path: Path) -> None:
    class Keywords(Net):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:  # type: ignore[override]
            return self.net(torch.cat([left, right], 1))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            target = batch.pop("labels")
            return nn.functional.cross_entropy(self(**batch), target)

    def halves(examples: list[Any]) -> dict[str, Tensor]:
        x, y = default_collate(examples)
        return {"left": x[:, :3], "right": x[:, 3:], "labels": y}

    module = Keywords()
    record = probed(tmp_path, module, loader(collate_fn=halves), online=True)
    check(record, -1, eval_forward(module), Points())
    assert EasinessRecord.load(tmp_path, series="train-online").count.sum() == 53


def test_hooks_of_the_datamodule_are_called(tmp_path: Path) -> None:
    class Data(LightningDataModule):
        def train_dataloader(self) -> DataLoader:
            return loader()

        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch[0] * 2, batch[1]

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch[0] + 1, batch[1]

    module = Net()
    forward = eval_forward
    record = probed(tmp_path, module, Data())
    check(record, -1, lambda x: forward(module)(2 * x + 1), Points())


# ---------------------------------------------------------------------------------------------- models and tasks


def returning(pack: Callable[[Tensor], Any], unpack: Callable[[Any], Tensor]) -> Net:
    class Returns(Net):
        def forward(self, x: Tensor) -> Any:
            return pack(self.net(x))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return nn.functional.cross_entropy(unpack(self(batch[0])), batch[1])

    return Returns()


OUTPUTS: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor], dict[str, Any]]] = {
    "a tuple": (lambda z: (z, z.mean()), lambda out: out[0], {}),
    "a mapping": (lambda z: {"loss": z.mean(), "logits": z}, lambda out: out["logits"], {}),
    "an object": (lambda z: SimpleNamespace(logits=z), lambda out: out.logits, {}),
    "logits_fn": (
        lambda z: {"deep": [z]},
        lambda out: out["deep"][0],
        {"logits_fn": lambda out: out["deep"][0]},
    ),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_every_output(kind: str, tmp_path: Path) -> None:
    pack, unpack, options = OUTPUTS[kind]
    module = returning(pack, unpack)
    record = probed(tmp_path, module, online=True, **options)
    check(record, -1, module.eval().net, Points())
    assert "margin" in EasinessRecord.load(tmp_path, series="train-online").fields


class Headed(Net):
    """Its head alone returns logits; what it returns itself are probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.ModuleDict({"body": nn.Linear(8, 8), "head": nn.Linear(8, 4)})

    def logits(self, x: Tensor) -> Tensor:
        return self.model["head"](self.model["body"](x))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).softmax(1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.nll_loss(self(batch[0]).log(), batch[1])


def test_a_named_part_is_reached_through_the_forward(tmp_path: Path) -> None:
    """The head would take the batch's inputs without complaint, as they are as wide as its own."""
    module = Headed()
    record = probed(tmp_path, module, module="model.head", online=True)
    check(record, -1, module.eval().logits, Points())
    assert not any(part._forward_hooks for part in module.modules())


def test_a_named_part_that_the_forward_does_not_use(tmp_path: Path) -> None:
    class Judge(Headed):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    module = Judge()
    record = probed(tmp_path, module, module="net", online=True)
    check(record, -1, module.eval().net, Points())


@pytest.mark.parametrize("hook", ["setup", "configure_model"])
def test_layers_that_are_made_late(hook: str, tmp_path: Path) -> None:
    class Late(Net):
        def __init__(self) -> None:
            super().__init__()
            del self.net

        def make(self, stage: str | None = None) -> None:
            self.net = nn.Sequential(nn.Linear(8, 4))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    setattr(Late, hook, Late.make)
    for options in ({}, {"module": "net"}):
        module = Late()
        record = probed(tmp_path / str(len(options)), module, online=True, **options)
        check(record, -1, module.net, Points())


def test_a_compiled_lightning_module(tmp_path: Path) -> None:
    class Whole(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

    pytest.importorskip("torch._dynamo")
    torch._dynamo.reset()
    module = Whole()
    observer = EasinessCallback(tmp_path)
    trainer(callbacks=[observer], max_epochs=1).fit(torch.compile(module, backend="eager"), loader())
    check(EasinessRecord.load(tmp_path), -1, eval_forward(module), Points())
    assert EasinessRecord.load(tmp_path, series="train-online").count.tolist() == [[[1] * 53]]


@pytest.mark.parametrize("shape", [(), (1,)])
def test_two_classes_of_one_logit(shape: tuple[int, ...], tmp_path: Path) -> None:
    class Binary(Net):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x).reshape(len(x), *shape)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return nn.functional.binary_cross_entropy_with_logits(self(batch[0]).flatten(), batch[1].float())

    points = Points()
    points.y = (points.y > 1).long()
    module = Binary()
    record = probed(tmp_path, module, loader(points), online=True)
    assert record.num_classes == 2
    check(record, -1, lambda x: torch.cat([torch.zeros(len(x), 1), module.net(x)], 1), points)
    with torch.no_grad():
        plain = nn.functional.binary_cross_entropy_with_logits(
            module.net(points.x)[:, 0], points.y.float(), reduction="none"
        )
    torch.testing.assert_close(record.loss[0, -1], plain, atol=1e-5, rtol=0)


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().flatten(1).mean(1)


class Regression(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[:, :2]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return squared_error(self(batch[0]), batch[1]).mean()


def test_regression(tmp_path: Path) -> None:
    class Targets(Points):
        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            return self.x[index], self.x[index, :2] * 3

    module, points = Regression(), Points()
    record = probed(tmp_path, module, loader(Targets()), online=True, loss_fn=squared_error)
    assert (record.fields, record.loss_name, record.num_classes) == (("loss",), "squared_error", None)
    assert record.target.tolist() == [-1] * 53
    plain = squared_error(module.eval()(points.x), points.x[:, :2] * 3)
    torch.testing.assert_close(record.loss[0, -1], plain.detach())
    online = EasinessRecord.load(tmp_path, series="train-online")
    assert (online.fields, online.loss.isfinite().all()) == (("loss", "count"), True)


def pixel_loss(logits: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, target, reduction="none").flatten(1).mean(1)


def test_segmentation(tmp_path: Path) -> None:
    class Masks(Points):
        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            picture = self.x[index].reshape(1, 2, 4)
            return picture, (picture[0] > 0).long()

    class Segments(Net):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(1, 3, 1))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return pixel_loss(self(batch[0]), batch[1]).mean()

    module, points = Segments(), Points()
    record = probed(tmp_path, module, loader(Masks()), online=True, loss_fn=pixel_loss)
    assert (record.fields, record.loss_name) == (("loss",), "pixel_loss")
    pictures = points.x.reshape(53, 1, 2, 4)
    torch.testing.assert_close(record.loss[0, -1], pixel_loss(module(pictures), (pictures[:, 0] > 0).long()).detach())


def test_a_loss_of_classification_beside_the_usual_fields(tmp_path: Path) -> None:
    def smoothed(logits: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, target, reduction="none", label_smoothing=0.2)

    module, points = Net(), Points()
    record = probed(tmp_path, module, loss_fn=smoothed)
    assert (record.fields, record.loss_name) == (FIELDS, "smoothed")
    logits = eval_forward(module)(points.x)
    torch.testing.assert_close(record.loss[0, -1], smoothed(logits, points.y).detach())
    assert torch.equal(record.correct[0, -1], logits.argmax(1) == points.y)


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
    module = Still()
    records = {}
    for name, workers, size in (("alone", 0, None), ("workers", 2, None), ("again", 0, None), ("other batches", 0, 5)):
        data = loader(Points(augment=True), num_workers=workers)
        records[name] = probed(tmp_path / name, module, data, at_steps=(0, 3), probe_batch_size=size).loss[0]
    for losses in records.values():
        assert torch.equal(losses[0], losses[1])
        assert torch.equal(losses[0], losses[2])
    assert torch.equal(records["alone"], records["workers"])
    assert torch.equal(records["alone"], records["again"])
    assert not torch.equal(records["alone"], records["other batches"])
    plain = nn.functional.cross_entropy(module(Points().x), Points().y, reduction="none")
    assert not torch.isclose(records["alone"][0], plain).any(), "every example is augmented"
    spread = records["alone"][0] - plain
    assert len(spread.detach().round(decimals=5).unique()) > 40, "each on its own"


def test_augmentations_of_the_data_sets_own_generator_are_those_of_the_moment(tmp_path: Path) -> None:
    """They cannot be set; two passes at one moment see the same, as the first gives the generator back."""

    class Own(Points):
        def __init__(self) -> None:
            super().__init__()
            self.noise = np.random.default_rng(0)

        def __getitem__(self, index: int) -> Any:
            x, y = super().__getitem__(index)
            return x + float(self.noise.normal()), y

    observers = [EasinessCallback(tmp_path / name, at_steps=(0, 3), online=False) for name in "ab"]
    trainer(callbacks=observers, max_epochs=1).fit(Still(), loader(Own()))
    first, second = (EasinessRecord.load(tmp_path / name).loss[0] for name in "ab")
    assert torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


def test_modes_during_and_after(tmp_path: Path) -> None:
    seen: list[tuple[bool, bool, bool, bool]] = []

    class Looks(Net):
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

    module = Looks()
    observer = EasinessCallback(tmp_path, at_steps=range(10))
    trainer(callbacks=[observer, After()], max_epochs=1).fit(module, loader())
    in_training, in_probe = (True, True, True, False), (False, False, False, True)
    assert set(seen) == {in_training, in_probe}
    assert seen.count(in_probe) == 8 * 7  # at the start and after each of the 7 batches
    assert seen[:7] == [in_probe] * 7
    assert module.net[0].weight.requires_grad


# ---------------------------------------------------------------------------------------------- around it


def test_tqdm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    observer = EasinessCallback(tmp_path, at_steps=(0, 3))
    trainer(callbacks=[observer, TQDMProgressBar()], enable_progress_bar=True, max_epochs=1).fit(Net(), loader())
    assert EasinessRecord.load(tmp_path).steps.tolist() == [0, 3, 7]
    assert "Easiness:  " in capsys.readouterr().out


def test_rich(tmp_path: Path) -> None:
    pytest.importorskip("rich")
    observer = EasinessCallback(tmp_path, at_steps=(0, 3))
    trainer(callbacks=[observer, RichProgressBar()], enable_progress_bar=True, max_epochs=1).fit(Net(), loader())
    assert EasinessRecord.load(tmp_path).steps.tolist() == [0, 3, 7]


class Counted(Points):
    reads = 0

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        Counted.reads += 1
        return super().__getitem__(index)


@pytest.mark.parametrize("batches", [True, 2])
def test_a_trial_run_writes_nothing_and_reads_little(batches: bool | int, tmp_path: Path) -> None:
    """Every path is tried all the same: at the start, after a step and at the epoch's end."""
    Counted.reads = 0
    shown: list[int] = []
    observer = EasinessCallback(
        tmp_path / "easiness", at_steps=(0, 1, 2), patterns={"spied": lambda x: shown.append(len(x)) or x}
    )
    fit = trainer(callbacks=[observer], fast_dev_run=batches)
    fit.fit(Net(), loader(Counted()))
    assert not (tmp_path / "easiness").exists()
    assert shown == [8] * int(batches) * (int(batches) + 1)
    assert Counted.reads == 8 * (int(batches) + len(shown))
