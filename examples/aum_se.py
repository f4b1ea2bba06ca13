"""AUM and AUM-SE under label noise c -> c + 1: true and false positive rates over training, for two readings of AUM-SE.

Moves a fraction of the labels of CIFAR-10's first images to the next class, trains a ResNet in the two runs of the
threshold protocol, and finds label errors after each epoch: by the area under the margin (AUM), and by AUM with its
flags refined by sample easiness at the given label (AUM-SE). The text of AUM-SE can be read in two ways: a flag is kept
where the example is easy, or where it is hard. The figure shows both, and AUM with a stricter threshold that finds the
same number of label errors as the second reading.

    python examples/aum_se.py --data-root ROOT

ROOT holds CIFAR-10 as torchvision.datasets.CIFAR10(ROOT, download=True) puts it there. After an interruption, run it
again: it resumes. The table is written to OUTPUT/aum_se.md, the figure to OUTPUT/aum_se.png.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path

import torch
from cifar10 import CifarData, images
from lightning.pytorch import LightningModule, Trainer
from needs import need_packages
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from lightning_easiness import EasinessCallback, Refine, Threshold, ThresholdRuns, find_label_issues
from lightning_easiness.functional import corrupt_labels
from lightning_easiness.view.style import (
    BETWEEN,
    EASY,
    HARD,
    INK,
    LineEnd,
    blank_figure,
    label_ends,
    saved,
    set_title,
    styled,
)

READINGS = {
    "AUM": None,
    "AUM-SE, kept where hard": Refine(which="hard"),
    "AUM-SE, kept where easy": Refine(which="easy"),
}
STYLES = {
    "AUM": (INK, "-"),
    "AUM-SE, kept where hard": (HARD, "-"),
    "AUM-SE, kept where easy": (EASY, "-"),
    "AUM, as strict": (BETWEEN, "--"),
}
LABELS = {
    "AUM": "all flags of AUM",
    "AUM-SE, kept where hard": "kept where hard",
    "AUM-SE, kept where easy": "kept where easy",
    "AUM, as strict": "AUM, as strict",
}
BLOCKS = {"resnet10": [1, 1, 1, 1], "resnet18": [2, 2, 2, 2]}


def small_resnet(name: str, num_classes: int) -> ResNet:
    """Make a ResNet with a 3 x 3 stem; resnet10 pools to 8 x 8 in the stem, so that a CPU can train it."""
    model = ResNet(BasicBlock, BLOCKS[name], num_classes=num_classes)
    fast = name != "resnet18"
    model.conv1 = nn.Conv2d(3, 64, 3, stride=2 if fast else 1, padding=1, bias=False)
    model.maxpool = nn.MaxPool2d(2) if fast else nn.Identity()
    return model


class Classifier(LightningModule):
    """An ordinary LightningModule with random flips and shifts of the images."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.model = small_resnet(ARGUMENTS.model, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        flips = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
        down, right = torch.randint(-4, 5, (2,)).tolist()
        x = torch.roll(torch.where(flips, x.flip(3), x), (down, right), (2, 3))
        return nn.functional.cross_entropy(self(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4, nesterov=True)


def make_trainer() -> Trainer:
    return Trainer(
        max_epochs=ARGUMENTS.epochs,
        accelerator=ARGUMENTS.accelerator,
        devices=1,
        callbacks=[EasinessCallback(every_n_epochs=1, num_images=0)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def rates(runs: ThresholdRuns, wrong: Tensor, epoch: int, reading: Refine | None) -> dict[str, float]:
    """Compute the fractions of the label errors and of the correct labels that are flagged after an epoch."""
    issues = find_label_issues(runs.dirpath, Threshold(), checkpoint=epoch, refine=reading)
    flagged = torch.zeros(len(wrong), dtype=torch.bool)
    flagged[issues.flagged] = True
    return {"TPR": float(flagged[wrong].double().mean()), "FPR": float(flagged[~wrong].double().mean())}


def stricter(runs: ThresholdRuns, wrong: Tensor, epoch: int, recall: float) -> dict[str, float]:
    """Compute the rates of AUM with a stricter threshold, which flags this fraction of the label errors."""
    ranked = wrong[find_label_issues(runs.dirpath, Threshold(), checkpoint=epoch).index]
    found = ranked.double().cumsum(0) / wrong.sum()
    count = int((found >= recall).nonzero()[0]) + 1
    return {"TPR": float(found[count - 1]), "FPR": float((~ranked[:count]).sum() / (~wrong).sum())}


def table(rows: dict[str, list[dict[str, float]]], shown: list[int]) -> str:
    lines = [
        "| flags | " + " | ".join(f"epoch {epoch + 1}" for epoch in shown) + " |",
        "| --- " * (len(shown) + 1) + "|",
    ]
    for name, found in rows.items():
        cells = [f"{found[epoch]['TPR']:.1%} / {found[epoch]['FPR']:.1%}" for epoch in shown]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(rows: dict[str, list[dict[str, float]]], epochs: list[int], path: Path) -> None:
    """Draw the rates after these epochs; "AUM, as strict" finds as many label errors as "kept where hard"."""
    figure = blank_figure("aum_se.py", 10, 4)
    left, right = (styled(axes) for axes in figure.subplots(1, 2))
    for axes, rate, hidden in ((left, "TPR", "AUM, as strict"), (right, "FPR", "")):
        shown = {name: [100 * row[rate] for row in found] for name, found in rows.items() if name != hidden}
        for name, values in shown.items():
            colour, line = STYLES[name]
            axes.plot(epochs, values, line, color=colour, linewidth=1.8, marker="o" if len(epochs) < 10 else "")
        axes.set(xlabel="epochs", ylim=(-2, 102), xticks=epochs[:: -(-len(epochs) // 5)])
        axes.yaxis.set_major_formatter("{x:.0f} %")
        axes.margins(x=0.02)
        label_ends(axes, [LineEnd(LABELS[name], values[-1], STYLES[name][0]) for name, values in shown.items()])
    before, after = (
        {rate: f"{100 * rows[name][-1][rate]:.1f} %" for rate in ("TPR", "FPR")}
        for name in ("AUM", "AUM-SE, kept where hard")
    )
    note = f"after {epochs[-1]} epochs, by keeping the flags of hard examples"
    set_title(left, f"Flagged label errors: {before['TPR']} become {after['TPR']}", note, width=4.5)
    set_title(right, f"Flagged correct labels: {before['FPR']} become {after['FPR']}", note, width=4.5)
    saved(figure, path)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("aum_se_output"))
    parser.add_argument("--model", choices=tuple(BLOCKS), default="resnet10")
    parser.add_argument("--size", type=int, default=10_000, help="use only the first SIZE training examples")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--ratio", type=float, default=0.2, help="fraction of the labels moved to the next class")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--accelerator", default="cpu")
    return parser.parse_args()


def main() -> None:
    need_packages("matplotlib")
    true = images(ARGUMENTS.data_root, "train")[1]
    given = true.clone()
    given[: ARGUMENTS.size] = corrupt_labels(true[: ARGUMENTS.size], ARGUMENTS.ratio, num_classes=10)
    data = CifarData(ARGUMENTS.data_root, ARGUMENTS.size, labels=given)
    wrong = (given != true)[: ARGUMENTS.size]
    runs = ThresholdRuns(
        make_trainer, Classifier, data, 10, ARGUMENTS.output / "runs", range(ARGUMENTS.seeds), progress=False
    )
    epochs = runs.run()[0].num_checkpoints
    rows = {name: [rates(runs, wrong, epoch, reading) for epoch in range(epochs)] for name, reading in READINGS.items()}
    hard = rows["AUM-SE, kept where hard"]
    rows["AUM, as strict"] = [stricter(runs, wrong, epoch, hard[epoch]["TPR"]) for epoch in range(epochs)]
    shown = sorted({max(0, round(epochs * part / 4) - 1) for part in (1, 2, 3, 4)})
    text = f"TPR / FPR, {len(wrong):,} labels, {float(wrong.double().mean()):.1%} moved to the next class\n\n"
    text += table(rows, shown)
    print(text)
    (ARGUMENTS.output / "aum_se.md").write_text(text + "\n", encoding="utf-8")
    draw(rows, list(range(1, epochs + 1)), ARGUMENTS.output / "aum_se.png")


if __name__ == "__main__":
    ARGUMENTS = parse()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*num_workers.*|.*logger=False.*")
    main()
