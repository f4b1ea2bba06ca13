"""Fits at each precision, and compiled, under one set of versions. Run by compatibility.py, prints JSON.

Each is trained with the callback and a selection, and the recorded losses are compared with a plain evaluation at the
same precision. What torch or Lightning does not do here without the callback is no matter of this package.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch import __version__ as lightning_version
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_easiness import Ablation, EasinessCallback, EasinessDataModule, EasinessRecord, Scores

PRECISIONS = ("32-true", "64-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true")
SIZE, CLASSES = 48, 4
TOLERANCES = {"32-true": 1e-5, "64-true": 1e-6}  # of half precision: one per cent


class Net(LightningModule):
    """A small classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class Data(LightningDataModule):
    """Points with a class."""

    def __init__(self) -> None:
        super().__init__()
        self.x = torch.randn(SIZE, 8, generator=torch.Generator().manual_seed(0))
        self.y = self.x[:, :CLASSES].argmax(1)

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(self.x, self.y), batch_size=8, shuffle=True)


def fit(precision: str, backend: str | None, folder: str | None) -> tuple[Trainer, Any, Data]:
    """Train, with the callback and a selection where there is a folder."""
    seed_everything(0, verbose=False)
    data, module = Data(), Net()
    model: Any = module if backend is None else torch.compile(module, backend=backend)
    given: Any = data
    if folder is not None:
        scores = Scores(torch.rand(SIZE), higher_is_easier=False, name="mean_loss")
        given = EasinessDataModule(data, selection=Ablation(scores, 0.25))
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        precision=precision,  # type: ignore[arg-type]
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[] if folder is None else [EasinessCallback(folder, every_n_epochs=1)],
    )
    trainer.fit(model, datamodule=given)
    return trainer, module, data


def outcome(precision: str, backend: str | None) -> str:
    """Return "equal", or why not."""
    try:
        fit(precision, backend, None)
    except Exception as error:
        return f"not without the callback either ({type(error).__name__}: {str(error).splitlines()[0][:90]})"
    torch._dynamo.reset()  # torch 2.6 goes on with what it compiled for a module without the callback's hooks
    try:
        with tempfile.TemporaryDirectory() as folder:
            trainer, module, data = fit(precision, backend, folder)
            recorded = EasinessRecord.load(folder, "train-probe").loss[0, -1]
    except Exception as error:
        sentence = " ".join(str(error).split())
        kind = "refused" if "EasinessCallback" in sentence else f"WRONG: {type(error).__name__}"
        return f"{kind}: {sentence[:250]}"
    module.eval()
    plugin = trainer.precision_plugin
    with torch.no_grad(), plugin.forward_context():
        logits = module(plugin.convert_input(data.x))
    plain = F.cross_entropy(logits.double(), data.y, reduction="none")
    difference = float((recorded.double() - plain).abs().max())
    limit = TOLERANCES.get(precision, 1e-2)
    return "equal" if difference <= limit else f"WRONG: differs by {difference:.2g}"


def main() -> None:
    warnings.filterwarnings("ignore")
    backend = sys.argv[1] if len(sys.argv) > 1 else "inductor"
    versions = (
        f"Python {platform.python_version()}, torch {torch.__version__.split('+')[0]}, Lightning {lightning_version}"
    )
    found = {precision: outcome(precision, None) for precision in PRECISIONS}
    found[f"compiled ({backend})"] = outcome("32-true", backend)
    print(json.dumps({"versions": versions, "fits": found}))


if __name__ == "__main__":
    main()
