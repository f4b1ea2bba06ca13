"""An evaluation pass has the numbers of a plain forward, whatever the loader, the batch, the model and the task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler, default_collate

from lightning_easiness import EasinessCallback, EasinessRecord
from tests.plain_forward import FIELDS, check, eval_forward, probed
from tests.small import Net, Points, loader, trainer

# ------------------------------------------------------------------------------------------------ loaders and batches


class Lists(Points):
    """Is asked for whole batches."""

    def __getitem__(self, indices: Any) -> Any:
        return default_collate([super(Lists, self).__getitem__(index) for index in indices])


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[Any]:
        return (Points()[index] for index in range(53))


class HooksOfTheDataModule(LightningDataModule):
    def train_dataloader(self) -> DataLoader:
        return loader()

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0] * 2, batch[1]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0] + 1, batch[1]


class AugmentsInTraining(Net):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return (batch[0] + 100 if self.trainer.training else batch[0]), batch[1]


def collated(pack: Callable[[Tensor, Tensor], Any]) -> Callable[[], DataLoader]:
    return lambda: loader(collate_fn=lambda examples: pack(*default_collate(examples)))


class AnyBatch(Net):
    """Takes (x, y), a mapping or an object."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if isinstance(batch, dict):
            batch = (batch["pixel_values"], batch["labels"])
        elif isinstance(batch, SimpleNamespace):
            batch = (batch.seen, batch.wanted)
        return super().training_step(batch, batch_idx)


class Keywords(Net):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:  # type: ignore[override]
        return self.net(torch.cat([left, right], 1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        target = batch.pop("labels")
        return nn.functional.cross_entropy(self(**batch), target)


class SeveralLoaders(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch["a"], batch_idx) + super().training_step(batch["b"], batch_idx)


# ------------------------------------------------------------------------------------------------------------- models


def returning(pack: Callable[[Tensor], Any], unpack: Callable[[Any], Tensor]) -> Callable[[], Net]:
    class Returns(Net):
        def forward(self, x: Tensor) -> Any:
            return pack(self.net(x))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return nn.functional.cross_entropy(unpack(self(batch[0])), batch[1])

    return Returns


class Headed(Net):
    """Its head returns logits, and would take the batch's inputs too; what it returns itself are probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.ModuleDict({"body": nn.Linear(8, 8), "head": nn.Linear(8, 4)})

    def logits(self, x: Tensor) -> Tensor:
        return self.model["head"](self.model["body"](x))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).softmax(1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.nll_loss(self(batch[0]).log(), batch[1])


class OtherPart(Headed):
    """Trains a part that its forward does not use."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])


def made_late(hook: str) -> Callable[[], Net]:
    class Late(Net):
        def __init__(self) -> None:
            super().__init__()
            del self.net

        def make(self, stage: str | None = None) -> None:
            self.net = nn.Sequential(nn.Linear(8, 4))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    setattr(Late, hook, Late.make)
    return Late


class Case(NamedTuple):
    data: Callable[[], Any] = loader
    module: Callable[[], Any] = AnyBatch
    options: dict[str, Any] = {}  # noqa: RUF012
    forward: Callable[[Any], Callable[[Tensor], Tensor]] = eval_forward  # of the trained module
    points: Points = Points()


def net_of(module: Any) -> Callable[[Tensor], Tensor]:
    return module.eval().net  # type: ignore[no-any-return]


# every kind of batch and output is in test_batch_reader.py, every batch size in tests/data/test_ordered_loader.py
CASES: dict[str, Case] = {
    "two workers": Case(lambda: loader(num_workers=2)),
    "whole index lists": Case(
        lambda: DataLoader(
            Lists(), batch_size=None, sampler=BatchSampler(SequentialSampler(Points()), 9, drop_last=False)
        )
    ),
    "a mapping": Case(collated(lambda x, y: {"pixel_values": x, "labels": y, "id": torch.arange(len(y))})),
    "batch_fn": Case(
        collated(lambda x, y: SimpleNamespace(seen=x, wanted=y)),
        options={"batch_fn": lambda batch: (batch.seen, batch.wanted)},
    ),
    "keywords": Case(collated(lambda x, y: {"left": x[:, :3], "right": x[:, 3:], "labels": y}), Keywords),
    "hooks of the datamodule": Case(
        HooksOfTheDataModule, forward=lambda module: lambda x: eval_forward(module)(2 * x + 1)
    ),
    "hooks that ask for the stage": Case(module=AugmentsInTraining),
    "another loader beside a stream": Case(
        lambda: DataLoader(Stream(), batch_size=8),
        options={"probe": loader(Points(19, seed=2), batch_size=5), "online": False},
        points=Points(19, seed=2),
    ),
    "another loader beside several": Case(
        lambda: {"a": loader(), "b": loader()},
        SeveralLoaders,
        {"probe": loader(Points(19, seed=2)), "online": False},
        points=Points(19, seed=2),
    ),
    "a tuple": Case(module=returning(lambda z: (z, z.mean()), lambda out: out[0])),
    "logits_fn": Case(
        module=returning(lambda z: {"deep": [z]}, lambda out: out["deep"][0]),
        options={"logits_fn": lambda out: out["deep"][0]},
    ),
    "a named part": Case(module=Headed, options={"module": "model.head"}, forward=lambda module: module.eval().logits),
    "a named part beside the forward": Case(module=OtherPart, options={"module": "net"}, forward=net_of),
    **{
        f"layers made in {hook}, {options}": Case(module=made_late(hook), options=options, forward=net_of)
        for hook in ("setup", "configure_model")
        for options in ({}, {"module": "net"})
    },
}


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_of_a_plain_forward(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    module = case.module()
    record = probed(tmp_path, module, case.data(), **{"online": True, **case.options})
    check(record, -1, case.forward(module), case.points)
    assert not any(part._forward_hooks for part in module.modules())
    if case.options.get("online", True):
        assert {"margin", "count"} <= set(EasinessRecord.load(tmp_path, series="train-online").fields)


def test_a_compiled_lightning_module(tmp_path: Path) -> None:
    pytest.importorskip("torch._dynamo")
    torch._dynamo.reset()
    module = returning(lambda z: z, lambda out: out)()
    trainer(callbacks=[EasinessCallback(tmp_path)], max_epochs=1).fit(torch.compile(module, backend="eager"), loader())
    check(EasinessRecord.load(tmp_path, "train-probe"), -1, eval_forward(module), Points())
    assert EasinessRecord.load(tmp_path, series="train-online").count.tolist() == [[[1] * 53]]


# -------------------------------------------------------------------------------------------------------------- tasks


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().flatten(1).mean(1)


def pixel_loss(logits: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, target, reduction="none").flatten(1).mean(1)


class Regression(Net):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 2))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return squared_error(self(batch[0]), batch[1]).mean()


class Segmentation(Net):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 3, 1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return pixel_loss(self(batch[0]), batch[1]).mean()


class Vectors(Points):
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return self.x[index], self.x[index, :2] * 3


class Masks(Points):
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        image = self.x[index].reshape(1, 2, 4)
        return image, (image[0] > 0).long()


@pytest.mark.parametrize(
    ("make", "dataset", "loss_fn"),
    [(Regression, Vectors(), squared_error), (Segmentation, Masks(), pixel_loss)],
    ids=["regression", "segmentation"],
)
def test_tasks_by_a_loss_of_the_user(make: Any, dataset: Points, loss_fn: Any, tmp_path: Path) -> None:
    module = make()
    record = probed(tmp_path, module, loader(dataset), online=True, loss_fn=loss_fn)
    assert (record.fields, record.loss_name, record.num_classes) == (("loss",), loss_fn.__name__, None)
    assert record.target.tolist() == [-1] * 53
    inputs, targets = default_collate([dataset[index] for index in range(53)])
    torch.testing.assert_close(record.loss[0, -1], loss_fn(module(inputs), targets).detach())
    online = EasinessRecord.load(tmp_path, series="train-online")
    assert (online.fields, online.loss.isfinite().all()) == (("loss", "count"), True)


def test_a_loss_of_classification_beside_the_usual_fields(tmp_path: Path) -> None:
    def smoothed(logits: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, target, reduction="none", label_smoothing=0.2)

    module, points = Net(), Points()
    record = probed(tmp_path, module, loss_fn=smoothed)
    assert (record.fields, record.loss_name) == (FIELDS, "smoothed")
    logits = eval_forward(module)(points.x)
    torch.testing.assert_close(record.loss[0, -1], smoothed(logits, points.y).detach())
    assert torch.equal(record.correct[0, -1], logits.argmax(1) == points.y)
