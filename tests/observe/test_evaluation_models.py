"""The probe's numbers are those of a plain forward, whatever the loader, the batch, the model and the task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, default_collate

from lightning_easiness import EasinessCallback, EasinessRecord
from tests.plain_forward import FIELDS, check, eval_forward, probed
from tests.small import Net, Points, loader, trainer

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
