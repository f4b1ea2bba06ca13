"""How much of Fashion-MNIST does a small CNN need, and which part?

The question of Figure 4 of the 2019 paper, which paper/loss_ablation.py asks of CIFAR-10 as the paper does. Here it is
asked with equal updates as well, and of coverage-centric selection.

Trains on the examples that five selection methods keep at each ratio, once with the same number of epochs (so fewer
updates for a smaller data set) and once with the same number of updates, and writes two tables and two figures. After
an interruption, run it again: it resumes.

    python examples/compress.py --data-root ROOT     # ROOT/FashionMNIST/raw holds the four files of the data set
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path
from typing import Any

from fashion_mnist import Classifier, FashionData
from lightning.pytorch import Trainer
from needs import need_packages

from lightning_easiness import EasinessCallback, compare_selections, draw_comparison

HARDEST_DROPPED = 0.1  # used by "stratified": the very hardest examples often have label errors


def as_markdown(rows: list[dict[str, Any]], ratios: list[float]) -> str:
    """Format the rows as two tables with one line per method and one column per ratio, "mean ± spread" in percent.

    The second is of the worst class.
    """
    accuracy = _table(rows, ratios, "mean", "spread")
    updates = {row["ratio"]: f"{row['updates']:.0f}" for row in rows if row["method"] == "random"}
    accuracy.append("| *updates* | " + " | ".join(updates[ratio] for ratio in ratios) + " |")
    worst = _table(rows, ratios, "worst_class", "worst_class_spread")
    return "\n".join([*accuracy, "", "The class that is predicted worst:", "", *worst])


def _table(rows: list[dict[str, Any]], ratios: list[float], mean: str, spread: str) -> list[str]:
    """Return the lines of a table of one of the measures."""

    def cell(row: dict[str, Any]) -> str:
        return f"{100 * row[mean]:.1f} ± {100 * row[spread]:.1f}"

    everything = next(row for row in rows if row["method"] == "everything")
    lines = [f"Everything: {cell(everything)} %, {everything['num_seeds']} seeds.", ""]
    lines += ["| removed | " + " | ".join(f"{ratio:.0%}" for ratio in ratios) + " |"]
    lines += ["| --- " * (len(ratios) + 1) + "|"]
    for method in dict.fromkeys(row["method"] for row in rows if row is not everything):
        found = {row["ratio"]: cell(row) for row in rows if row["method"] == method}
        lines.append(f"| {method} | " + " | ".join(found[ratio] for ratio in ratios) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("compress_output"))
    parser.add_argument("--size", type=int, default=20_000, help="use only the first SIZE training examples")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    parser.add_argument("--equal", nargs="+", choices=("epochs", "updates"), default=["epochs", "updates"])
    parser.add_argument("--accelerator", default="cpu")
    arguments = parser.parse_args()
    need_packages("matplotlib")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*num_workers.*|.*drop_last.*|.*loses.*|.*keeps no example.*")

    def make_trainer(max_steps: int = -1) -> Trainer:
        return Trainer(
            max_epochs=arguments.epochs if max_steps < 0 else -1,
            max_steps=max_steps,
            accelerator=arguments.accelerator,
            devices=1,
            # only the final loss is needed
            callbacks=[EasinessCallback(every_n_epochs=arguments.epochs, online=False, probe_batch_size=1000)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    for equal in arguments.equal:
        rows = compare_selections(
            make_trainer,
            Classifier,
            FashionData(arguments.data_root, arguments.size),
            ratios=arguments.ratios,
            seeds=range(arguments.seeds),
            dirpath=arguments.output,
            metric="test_accuracy",
            evaluate="test",
            equal=equal,
            hardest_dropped=HARDEST_DROPPED,
        )
        table = as_markdown(rows, sorted(arguments.ratios))
        (arguments.output / f"equal_{equal}.md").write_text(table + "\n", encoding="utf-8")
        draw_comparison(rows, arguments.output / f"equal_{equal}.png")
        print(f"\nTest accuracy, equal {equal}, {arguments.size:,} examples, {arguments.epochs} epochs\n\n{table}\n")


if __name__ == "__main__":
    main()
