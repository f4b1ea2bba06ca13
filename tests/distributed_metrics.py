"""Metrics and SELModule in several processes, for test_metrics.py and test_module.py; each rank leaves a file.

python -m tests.distributed_metrics <strategy> <number of processes> <folder>
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_easiness import SELModule
from lightning_easiness.metrics import ExpectedSampleEasinessError, MatchingRate, MediumSampleRate
from tests.small import NUM_CLASSES, Points, loader, trainer

SIGMA2 = 1e-3
NUM_EXAMPLES = 61


def examples() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits of all levels of easiness, targets, and two scores that agree in part."""
    generator = torch.Generator().manual_seed(11)
    logits = 2.5 * torch.randn(NUM_EXAMPLES, NUM_CLASSES, generator=generator)
    target = torch.where(
        torch.rand(NUM_EXAMPLES, generator=generator) < 0.6,
        logits.argmax(1),
        torch.randint(NUM_CLASSES, (NUM_EXAMPLES,), generator=generator),
    )
    a = torch.rand(NUM_EXAMPLES, generator=generator)
    return logits, target, a, a + 0.4 * torch.rand(NUM_EXAMPLES, generator=generator)


def make_metrics() -> dict[str, Metric]:
    return {
        "medium_sample_rate": MediumSampleRate(sigma2=SIGMA2),
        "sample_easiness_error": ExpectedSampleEasinessError(sigma2=SIGMA2),
        "matching_rate": MatchingRate(0.2, higher_is_easier=False),
        "matching_rate of indices": MatchingRate(0.2, higher_is_easier=(False, False), which="hard"),
    }


def inputs_of(name: str, batch: Tensor) -> tuple[Tensor, ...]:
    """What `name` of `make_metrics` is given of these examples."""
    logits, target, a, b = (numbers[batch] for numbers in examples())
    if "matching" not in name:
        return logits, target
    return (a, b, batch) if "indices" in name else (a, b)


def update(metrics: dict[str, Metric], batch: Tensor) -> None:
    """With the examples of these indices."""
    for name, metric in metrics.items():
        metric.update(*inputs_of(name, batch))


def measure(rank: int, ranks: int) -> dict[str, float]:
    """This rank's examples in batches that differ by rank in size and number."""
    metrics = make_metrics()
    mine = torch.arange(rank, NUM_EXAMPLES, ranks)
    for batch in mine.split(4 + 5 * rank):
        update(metrics, batch)
    found = {name: float(metric.compute()) for name, metric in metrics.items()}
    update({**metrics, "matching_rate": MatchingRate(0.2, higher_is_easier=False)}, torch.tensor([0, 1]))
    # the first two examples again, in every process: where there is an index, they count once
    again = metrics["matching_rate of indices"].compute()
    return {**found, "padded": float(again)}


def measure_on_the_first(rank: int) -> dict[str, float]:
    """All examples are the first rank's; the others have none."""
    metrics = make_metrics()
    if rank == 0:
        update(metrics, torch.arange(NUM_EXAMPLES))
    return {name: float(metrics[name].compute()) for name in ("medium_sample_rate", "sample_easiness_error")}


class Net(SELModule, LightningModule):
    def __init__(self) -> None:
        super().__init__(sel_weight=0.5, sel_sigma2=SIGMA2, sel_start_epoch=1)
        self.net = nn.Linear(8, NUM_CLASSES)
        self.seen: list[tuple[str, int, Tensor, Tensor, Tensor]] = []

    def step(self, stage: str, batch: Any) -> Tensor:
        logits = 4 * self.net(batch[0])
        value = self.sel(logits, batch[1])
        stage = "sanity" if self.trainer.sanity_checking else stage
        self.seen.append((stage, self.current_epoch, logits.detach().clone(), batch[1], value.detach()))
        return nn.functional.cross_entropy(logits, batch[1]) + value

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.step("train", batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.step("val", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class Measures(Callback):
    """Measures where the processes know each other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: dict[str, Any] = {}
        self.logged: list[dict[str, float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.found["metrics"] = measure(trainer.global_rank, trainer.world_size)
        self.found["first"] = measure_on_the_first(trainer.global_rank)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        kept = {"seen": pl_module.seen, "logged": self.logged, "weights": dict(pl_module.state_dict()), **self.found}
        torch.save(kept, self.folder / f"rank-{trainer.global_rank}.pt")


def main(strategy: str, devices: str, folder: str) -> None:
    seed_everything(1, verbose=False)
    fit = trainer(strategy=strategy, devices=int(devices), callbacks=[Measures(Path(folder))])
    fit.fit(Net(), loader(Points(21), batch_size=4), loader(Points(14, seed=3), batch_size=4, shuffle=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
