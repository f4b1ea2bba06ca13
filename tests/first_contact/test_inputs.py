"""Modules and batches as people write them, with the callback added: the right losses, or one sentence at the start."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightning_easiness import EasinessCallback, EasinessRecord
from tests.small import trainer

N, D, H, K = 37, 6, 16, 3
NAMES = ("cat", "dog", "eel")
X = torch.randn(N, D, generator=torch.Generator().manual_seed(0))
CLASS = X[:, :K].argmax(1)
IS_FIRST = (CLASS == 0).float()
UNLABELLED = CLASS.masked_fill(torch.arange(N) % 5 == 0, -100)


class Items(Dataset[Any]):
    """Lists the names of its classes where it is given them, as the data sets of torchvision do."""

    def __init__(self, item: Callable[[int], Any], classes: Sequence[str] = ()) -> None:
        self.item = item
        if classes:
            self.classes = list(classes)

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        return self.item(index)


class Encoder(LightningModule):
    """An encoder and a head; `steps` counts the training steps."""

    def __init__(self, num_outputs: int = K) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(D, H), nn.ReLU())
        self.head = nn.Linear(H, num_outputs)
        self.steps = 0

    def forward(self, x: Tensor) -> Any:
        return self.head(self.encoder(x))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.steps += 1
        return self.loss(batch)

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class FeaturesAndLogits(Encoder):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(x)
        return features, self.head(features)

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x)[1], y)


class MainAndAuxiliary(FeaturesAndLogits):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(D, K)
        self.head = nn.Linear(K, K)


class SigmoidAtTheEnd(Encoder):
    def __init__(self) -> None:
        super().__init__(num_outputs=1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze(1).sigmoid()

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return F.binary_cross_entropy(self(x), y)


class Binary(Encoder):
    def __init__(self) -> None:
        super().__init__(num_outputs=1)

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return nn.BCEWithLogitsLoss()(self(x).squeeze(1), y)


class Keywords(Encoder):
    def forward(self, **inputs: Tensor) -> Tensor:
        return super().forward(inputs["pixel_values"])

    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self(pixel_values=batch["pixel_values"]), batch["labels"])


class NoForward(LightningModule):
    """Does everything in its training step."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(D, H), nn.ReLU())
        self.head = nn.Linear(H, K)
        self.steps = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.steps += 1
        x, y = batch
        return F.cross_entropy(self.head(self.encoder(x)), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Embeds(Encoder):
    """Its forward returns what its training step gives to the head."""

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.head(self(x)), y)


class WithDomain(Encoder):
    def loss(self, batch: Any) -> Tensor:
        x, _, y = batch
        return F.cross_entropy(self(x), y)


class Pairs(Encoder):
    def __init__(self) -> None:
        super().__init__(num_outputs=1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return super().forward((a - b).abs()).squeeze(1)

    def loss(self, batch: Any) -> Tensor:
        a, b, y = batch
        return F.binary_cross_entropy_with_logits(self(a, b), y)


def fit(
    trained: LightningModule, item: Callable[[int], Any], folder: Path, classes: Sequence[str] = (), **options: Any
) -> None:
    callback = EasinessCallback(folder, num_images=0, **options)
    data = DataLoader(Items(item, classes), batch_size=8, shuffle=True)
    trainer(callbacks=[callback], max_epochs=2).fit(trained, data)


# ------------------------------------------------------------------ understood


class Understood(NamedTuple):
    module: type[Any]
    item: Callable[[int], Any]
    loss: Callable[[Any], Tensor]  # of each example, from the trained module, by torch's own functions
    loss_name: str = "cross_entropy"
    num_classes: int = K


def of_two(logit: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logit, IS_FIRST, reduction="none")


UNDERSTOOD = {
    "features and logits, where the classes decide": Understood(
        FeaturesAndLogits,
        lambda i: (X[i], CLASS[i]),
        lambda module: F.cross_entropy(module(X)[1], CLASS, reduction="none"),
    ),
    "one output that ends in a sigmoid": Understood(
        SigmoidAtTheEnd,
        lambda i: (X[i], IS_FIRST[i]),
        lambda module: F.binary_cross_entropy(module(X), IS_FIRST, reduction="none"),
        num_classes=2,
    ),
    "one logit and the floats of BCEWithLogitsLoss": Understood(
        Binary, lambda i: (X[i], IS_FIRST[i]), lambda module: of_two(module(X)[:, 0]), num_classes=2
    ),
    "a mapping passed by keyword": Understood(
        Keywords,
        lambda i: {"pixel_values": X[i], "labels": CLASS[i]},
        lambda module: F.cross_entropy(module(pixel_values=X), CLASS, reduction="none"),
    ),
    "labels of -100": Understood(
        Encoder,
        lambda i: (X[i], UNLABELLED[i]),
        lambda module: F.cross_entropy(module(X), UNLABELLED, reduction="none").masked_fill(UNLABELLED < 0, torch.nan),
    ),
    "one-hot targets": Understood(
        Encoder,
        lambda i: (X[i], F.one_hot(CLASS[i], K).float()),
        lambda module: F.cross_entropy(module(X), CLASS, reduction="none"),
    ),
}


@pytest.mark.parametrize("case", UNDERSTOOD)
@pytest.mark.filterwarnings("ignore:.*no label")
def test_what_is_recorded_is_the_loss_of_the_module_itself(case: str, tmp_path: Path) -> None:
    module, item, loss, loss_name, num_classes = UNDERSTOOD[case]
    trained = module()
    fit(trained, item, tmp_path, NAMES[:num_classes])
    trained.eval()
    with torch.no_grad():
        expected = loss(trained)
    for series in ("train-probe", "train-online"):
        record = EasinessRecord.load(tmp_path, series)
        assert (record.loss_name, record.num_classes) == (loss_name, num_classes)
        assert torch.equal(record.loss[0, -1].isnan(), expected.isnan())
    probe = EasinessRecord.load(tmp_path, "train-probe")
    torch.testing.assert_close(probe.loss[0, -1], expected, equal_nan=True, rtol=1e-4, atol=1e-5)
    labels = IS_FIRST.long() if num_classes == 2 else CLASS
    assert torch.equal(probe.target, labels.masked_fill(expected.isnan(), -1))


def test_unlabelled_examples_are_in_no_ranking_and_are_counted(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(Encoder(), lambda i: (X[i], UNLABELLED[i]), tmp_path)
        scores = EasinessRecord.load(tmp_path).score("mean_loss")
    said = [str(warning.message) for warning in caught]
    unlabelled = set((UNLABELLED < 0).nonzero()[:, 0].tolist())
    assert not unlabelled & {*scores.easiest(1.0).tolist(), *scores.hardest(1.0).tolist()}
    assert len(scores.easiest(1.0)) == N - len(unlabelled)
    assert not [sentence for sentence in said if "diverged" in sentence]
    assert [sentence for sentence in said if f"{len(unlabelled)} of {N} examples" in sentence]


# ------------------------------------------------------------------ refused


class Refused(NamedTuple):
    module: type[Any]
    item: Callable[[int], Any]
    message: str
    options: Mapping[str, Any] = MappingProxyType({})
    steps: int = 0


REFUSED = {
    "two outputs of which either may be the logits": Refused(
        MainAndAuxiliary,
        lambda i: (X[i], CLASS[i]),
        "The module returns several tensors that may be the logits (output[0] (8, 3), output[1] (8, 3)): pass the one"
        " that they are, logits_fn=lambda output: output[0] or output[1].",
    ),
    "the head of an encoder": Refused(
        NoForward,
        lambda i: (X[i], CLASS[i]),
        "The module defines no forward, and its part 'head' does not take a batch's inputs (RuntimeError: mat1 and mat2"
        " shapes cannot be multiplied (8x6 and 16x3)), so an evaluation pass gets no logits: let a forward return them,"
        " or pass probe=None.",
        {"module": "head"},
    ),
    "embeddings in place of logits": Refused(
        Embeds,
        lambda i: (X[i], CLASS[i]),
        "EasinessCallback reads 16 outputs, but there are 3 classes, and the first training step's loss is ",
        steps=1,
    ),
    "two items that may be the targets": Refused(
        WithDomain,
        lambda i: (X[i], i % 2, CLASS[i]),
        "The second and the item number 3 of a batch of 3 may both be the classes: pass batch_fn=lambda batch:"
        " (batch[0], batch[1]), or (batch[0], batch[2]).",
    ),
    "two inputs": Refused(
        Pairs,
        lambda i: (X[i], X[-i], IS_FIRST[i]),
        "The module raised TypeError (Pairs.forward() missing 1 required positional argument: 'b') when it was called"
        " with torch.float32 (8, 6) out of a batch that is (torch.float32 (8, 6), torch.float32 (8, 6), torch.float32"
        " (8,)): pass batch_fn=lambda batch: (inputs, targets), with the inputs that forward takes.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_understood_is_refused_at_the_start_in_one_sentence(case: str, tmp_path: Path) -> None:
    module, item, message, options, steps = REFUSED[case]
    trained = module()
    with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
        fit(trained, item, tmp_path / "easiness", NAMES, **options)
    said = str(caught.value)
    assert said.startswith(message) if steps else said == message
    assert trained.steps == steps
    assert not list(tmp_path.rglob("step-*"))


def test_the_way_out_that_a_sentence_names_works(tmp_path: Path) -> None:
    def first_and_third(batch: Any) -> Any:
        return batch[0], batch[2]

    for name, module, item, options in (
        ("domain", WithDomain, lambda i: (X[i], i % 2, CLASS[i]), {"batch_fn": first_and_third}),
        ("auxiliary", MainAndAuxiliary, lambda i: (X[i], CLASS[i]), {"logits_fn": lambda output: output[1]}),
        ("embeds", Embeds, lambda i: (X[i], CLASS[i]), {"module": "head", "probe": None}),
        ("pairs", Pairs, lambda i: (X[i], X[-i], IS_FIRST[i]), {"batch_fn": lambda batch: (batch[:2], batch[2])}),
        ("head", NoForward, lambda i: (X[i], CLASS[i]), {"module": "head", "probe": None}),
    ):
        fit(module(), item, tmp_path / name, **options)
        assert EasinessRecord.load(tmp_path / name).num_classes == (2 if module is Pairs else K)


def test_features_beside_logits_where_nothing_tells_the_number_of_classes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="several tensors") as caught:
        fit(FeaturesAndLogits(), lambda i: (X[i], CLASS[i]), tmp_path)
    assert str(caught.value) == (
        "The module returns several tensors that may be the logits (output[0] (8, 16), output[1] (8, 3)): pass the one"
        " that they are, logits_fn=lambda output: output[0] or output[1]."
    )
    fit(FeaturesAndLogits(), lambda i: (X[i], CLASS[i]), tmp_path, logits_fn=lambda output: output[1])
    assert EasinessRecord.load(tmp_path).num_classes == K


def test_embeddings_where_nothing_tells_the_number_of_classes_are_warned_of(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(Embeds(), lambda i: (X[i], CLASS[i]), tmp_path)
    said = [str(warning.message) for warning in caught if "reads 16 outputs" in str(warning.message)]
    assert len(said) == 1
    assert said[0].startswith("EasinessCallback reads 16 outputs, but the first batch has 3 classes, and its loss in ")
    assert "module='head'" in said[0]
