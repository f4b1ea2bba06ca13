"""Published LightningModules, as they are, with one line more: the callback. Run by compatibility.py, prints JSON.

Each is trained for an epoch on data made up here, and the losses that the callback recorded in its evaluation pass are
compared with a plain evaluation of the module, one example at a time. A module whose outputs are not understood must
be refused in one sentence before the first step; it is then trained with the argument that the sentence asks for.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightning_easiness import EasinessCallback, EasinessRecord

SIZE, BATCH = 24, 6
TOLERANCE = 1e-4


class Items(Dataset):
    """Items in memory."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


@dataclass
class Case:
    """A module, its data, and the loss of one item by a plain evaluation.

    Attributes:
        module: The LightningModule.
        items: The data set.
        loss: (module, batch of one item) -> its loss.
        arguments: Of EasinessCallback, where the module is refused without them.
        collate: As in DataLoader.
    """

    module: Any
    items: list[Any]
    loss: Callable[[Any, Any], Tensor]
    arguments: dict[str, Any] = field(default_factory=dict)
    collate: Any = None

    def loader(self, batch_size: int, shuffle: bool) -> DataLoader[Any]:
        return DataLoader(Items(self.items), batch_size, shuffle=shuffle, collate_fn=self.collate)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def classes(number: int) -> Tensor:
    return torch.arange(SIZE) % number


# ------------------------------------------------------------------------------------------------------- the modules


def lightly_classifier() -> Case:
    """Vision: lightly's LinearClassifier."""
    from lightly.utils.benchmarking import LinearClassifier

    backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module = LinearClassifier(backbone, batch_size_per_device=BATCH, feature_dim=8, num_classes=3, topk=(1,))
    items = list(zip(noise(SIZE, 3, 16, 16), classes(3), range(SIZE), strict=True))
    return Case(module, items, lambda module, batch: F.cross_entropy(module(batch[0]), batch[1]), {"online": False})


def torchgeo_classification() -> Case:
    """Remote sensing: torchgeo's ClassificationTask, with a network of timm."""
    from torchgeo.trainers import ClassificationTask

    module = ClassificationTask(model="resnet18", in_channels=4, num_classes=3)
    items = [{"image": x, "label": y} for x, y in zip(noise(SIZE, 4, 32, 32), classes(3), strict=True)]
    return Case(module, items, lambda module, batch: F.cross_entropy(module(batch["image"]), batch["label"]))


def torchgeo_segmentation() -> Case:
    """Segmentation: torchgeo's SemanticSegmentationTask, with a network of segmentation-models-pytorch."""
    from torchgeo.trainers import SemanticSegmentationTask

    module = SemanticSegmentationTask(model="unet", backbone="resnet18", in_channels=3, num_classes=3)
    masks = torch.arange(SIZE * 32 * 32).reshape(SIZE, 32, 32) % 3
    items = [{"image": x, "mask": y} for x, y in zip(noise(SIZE, 3, 32, 32), masks, strict=True)]
    return Case(module, items, lambda module, batch: F.cross_entropy(module(batch["image"]), batch["mask"]))


def tabular_embedding() -> Case:
    """Tables: pytorch-tabular's CategoryEmbeddingModel, with its own configuration."""
    import numpy as np
    import pandas as pd
    from pytorch_tabular import TabularModel
    from pytorch_tabular.config import DataConfig, OptimizerConfig, TrainerConfig
    from pytorch_tabular.models import CategoryEmbeddingModelConfig

    table = pd.DataFrame(noise(SIZE, 3).numpy(), columns=list("abc"))
    table["d"], table["class"] = np.arange(SIZE) % 4, classes(3).numpy()
    model = TabularModel(
        data_config=DataConfig(target=["class"], continuous_cols=list("abc"), categorical_cols=["d"]),
        model_config=CategoryEmbeddingModelConfig(task="classification", layers="8", use_batch_norm=False),
        optimizer_config=OptimizerConfig(),
        trainer_config=TrainerConfig(batch_size=BATCH, max_epochs=1, accelerator="cpu"),
        verbose=False,
    )
    data = model.prepare_dataloader(train=table, validation=table, seed=0)
    module = model.prepare_model(data)
    items = [data.train_dataset[index] for index in range(SIZE)]
    return Case(
        module,
        items,
        lambda module, batch: F.cross_entropy(module(batch)["logits"], batch["target"].reshape(-1).long()),
        {"batch_fn": lambda batch: (batch, batch["target"].squeeze(1).long())},
    )


def chemprop_network() -> Case:
    """Chemistry: chemprop's MPNN, a regression over molecules."""
    from chemprop import data, models
    from chemprop import nn as parts

    smiles = ["C" * (1 + number % 8) + "O" for number in range(SIZE)]
    points = [data.MoleculeDatapoint.from_smi(text, [float(len(text))]) for text in smiles]
    found = data.MoleculeDataset(points)
    module = models.MPNN(
        parts.BondMessagePassing(d_h=16), parts.MeanAggregation(), parts.RegressionFFN(input_dim=16, hidden_dim=8)
    )
    return Case(
        module,
        [found[index] for index in range(SIZE)],
        lambda module, batch: F.mse_loss(module(batch.bmg, batch.V_d, batch.X_d), batch.Y),
        {"batch_fn": lambda batch: (batch.bmg, batch.Y), "online": False},
        data.collate_batch,
    )


def uncertainty_classification() -> Case:
    """Uncertainty: lightning-uq-box's DeterministicClassification, the base of its methods."""
    from lightning_uq_box.uq_methods import DeterministicClassification

    network = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    module = DeterministicClassification(network, nn.CrossEntropyLoss())
    items = [{"input": x, "target": y} for x, y in zip(noise(SIZE, 5), classes(3), strict=True)]
    return Case(
        module,
        items,
        lambda module, batch: F.cross_entropy(module(batch["input"]), batch["target"]),
    )


def uncertainty_regression() -> Case:
    """Uncertainty: lightning-uq-box's MVERegression, which predicts a mean and a variance."""
    from lightning_uq_box.uq_methods import MVERegression

    network = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
    module = MVERegression(network, burnin_epochs=0)
    x = noise(SIZE, 5)
    items = [{"input": row, "target": row[:1]} for row in x]
    return Case(
        module,
        items,
        lambda module, batch: F.mse_loss(module(batch["input"])[:, :1], batch["target"]),
        {"logits_fn": lambda output: output[:, :1]},
    )


def text_transformer() -> Case:
    """Text: the LightningTransformer that Lightning ships, a language model that takes its targets too."""
    from lightning.pytorch.demos import LightningTransformer

    Path("data").mkdir(exist_ok=True)  # in the folder of this process; else the module downloads its text
    Path("data/wikitext-2.txt").write_text("a text of a few words\n" * 40)
    module = LightningTransformer(vocab_size=11)
    tokens = torch.arange(SIZE * 7).reshape(SIZE, 7) % 11
    items = list(zip(tokens[:, :-1], tokens[:, 1:], strict=True))

    def loss(module: Any, batch: Any) -> Tensor:
        return F.nll_loss(module(*batch), batch[1].reshape(-1))

    def batch_fn(batch: Any) -> Any:
        return {"inputs": batch[0], "target": batch[1]}, batch[1]

    # its outputs are log-probabilities of all positions in one row
    def losses(output: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(output, target, reduction="none").mean(1)

    logits_fn = lambda output: output.reshape(-1, 6, 11).movedim(-1, 1)  # noqa: E731
    arguments = {"batch_fn": batch_fn, "logits_fn": logits_fn, "loss_fn": losses}
    return Case(module, items, loss, arguments)


def text_classifier() -> Case:
    """Text: a small BERT of transformers, in the module that its users write; the batch is a mapping."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    config.num_labels = 3

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = BertForSequenceClassification(config)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.model(**batch).loss

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters())

    tokens = torch.arange(SIZE * 6).reshape(SIZE, 6) % 30
    items = [
        {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": label}
        for ids, label in zip(tokens, classes(3), strict=True)
    ]
    return Case(Module(), items, lambda module, batch: module.model(**batch).loss)


def forecasting() -> Case:
    """Time series: pytorch-forecasting's TemporalFusionTransformer, a regression of quantiles."""
    import pandas as pd
    from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet
    from pytorch_forecasting.metrics import QuantileLoss

    rows = [
        {"time": time, "series": str(series), "value": float(time % 5 + series)}
        for series in range(4)
        for time in range(14)
    ]
    known = TimeSeriesDataSet(
        pd.DataFrame(rows),
        time_idx="time",
        target="value",
        group_ids=["series"],
        max_encoder_length=5,
        max_prediction_length=2,
        time_varying_unknown_reals=["value"],
    )
    module = TemporalFusionTransformer.from_dataset(known, hidden_size=8, loss=QuantileLoss([0.1, 0.5, 0.9]))

    def losses(output: Any, target: Any) -> Tensor:
        return (output[..., 1] - target[0]).abs().mean(1)

    return Case(
        module,
        [known[index] for index in range(len(known))],
        lambda module, batch: losses(module(batch[0]).prediction, batch[1])[0],
        {"loss_fn": losses, "logits_fn": lambda output: output.prediction},
        known._collate_fn,
    )


CASES: dict[str, tuple[str, str, Callable[[], Case]]] = {
    "vision": ("lightly", "LinearClassifier", lightly_classifier),
    "remote sensing": ("torchgeo", "ClassificationTask", torchgeo_classification),
    "segmentation": ("torchgeo", "SemanticSegmentationTask", torchgeo_segmentation),
    "tabular": ("pytorch-tabular", "CategoryEmbeddingModel", tabular_embedding),
    "chemistry": ("chemprop", "MPNN", chemprop_network),
    "uncertainty": ("lightning-uq-box", "DeterministicClassification", uncertainty_classification),
    "uncertainty, regression": ("lightning-uq-box", "MVERegression", uncertainty_regression),
    "text": ("lightning", "LightningTransformer", text_transformer),
    "text, classes": ("transformers", "BertForSequenceClassification", text_classifier),
    "time series": ("pytorch-forecasting", "TemporalFusionTransformer", forecasting),
}


# -------------------------------------------------------------------------------------------------------- one of them


def trainer_of(module: Any) -> Any:
    """Return the Trainer of the package that a module is of: `lightning` and `pytorch_lightning` are two."""
    if isinstance(module, lightning.LightningModule):
        return lightning.Trainer
    import pytorch_lightning

    return pytorch_lightning.Trainer


def fit(case: Case, **arguments: Any) -> float:
    """Train with the callback and return the largest difference of a recorded loss from a plain evaluation."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(case.module)(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[EasinessCallback(folder, **arguments)],
        )
        trainer.fit(case.module, case.loader(BATCH, shuffle=True), case.loader(BATCH, shuffle=False))
        recorded = EasinessRecord.load(folder, "train-probe").loss[0, -1]
    case.module.eval()
    with torch.no_grad():
        plain = torch.stack([case.loss(case.module, batch).reshape(()) for batch in case.loader(1, shuffle=False)])
    return float((recorded - plain).abs().max())


def outcome(make: Callable[[], Case]) -> dict[str, Any]:
    """Return what became of one module: "as it is", "with" an argument after a refusal, or the error."""
    try:
        case = make()
    except Exception as error:
        return {"verdict": "not run", "why": f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"}
    arguments: dict[str, Any] = {}
    found: dict[str, Any] = {}
    try:
        try:
            found["difference"] = fit(case)
        except (ValueError, TypeError, RuntimeError) as error:
            if not case.arguments:
                raise
            found["refused"] = " ".join(str(error).split())
            arguments, case = make().arguments, make()
            found["difference"] = fit(case, **arguments)
    except Exception as error:
        return {**found, "verdict": "WRONG", "why": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    found["arguments"] = sorted(arguments)
    found["verdict"] = "equal" if found["difference"] <= TOLERANCE else "WRONG"
    return found


def main() -> None:
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # where modules keep what they download or write
        for name in sys.argv[1:] or CASES:
            package, module, make = CASES[name]
            found = outcome(make)
            print(json.dumps({"field": name, "package": package, "module": module, **found}), flush=True)
        os.chdir("/")


if __name__ == "__main__":
    main()
