"""Are hard examples learnt or memorised? What runs say of them that did not train on them.

Each run leaves out a part of the examples. An example is learnt where most runs that left it out classify it correctly
at the end, memorised where only those do that trained on it, and missed where not even those do. The hardest tenth, by
the mean loss early in training, stands beside the easiest tenth, a random tenth, and examples whose labels were made
wrong on purpose, which cannot be learnt. Memorization itself, and what it costs to drop, is examples/memorization.py.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch
from device_data import HeldPictures
from experiment import Experiment, begin
from torch import Tensor
from training import Training

from lightning_easiness import EasinessCallback
from lightning_easiness.functional import corrupt_labels

SETTINGS: dict[str, dict[str, Any]] = {
    # a perceptron without augmentation, as it must be able to memorise
    "small": {
        "network": "mlp", "width": 0.3, "image_size": 14, "size": 2000, "test_size": 10, "batch_size": 64, "seeds": 8,
        "epochs": 60, "early": 2, "data": "fashion-mnist", "text": "sel",
    },
    "full": {
        "network": "wrn-16-4", "width": 1.0, "image_size": None, "size": None, "test_size": None, "batch_size": 128,
        "seeds": 20, "epochs": 300, "early": 10, "data": "cifar-10", "text": "count",
    },
}  # fmt: skip
HOLD_OUT, WRONG, TENTH = 0.3, 0.05, 0.1
KINDS = ("learnt", "memorised", "missed")


def trainings(setting: SimpleNamespace) -> dict[str, Training]:
    made = Training(
        setting.network, setting.data, setting.text, setting.epochs, width=setting.width, size=setting.size,
        test_size=setting.test_size, image_size=setting.image_size, batch_size=setting.batch_size,
    )  # fmt: skip
    return {"hard_examples": made}


def main() -> None:
    experiment = begin(__doc__, SETTINGS, trainings)
    wrong = with_wrong_labels(experiment)

    def watch() -> EasinessCallback:
        early = experiment.setting.early * math.ceil((1 - HOLD_OUT) * len(wrong) / experiment.setting.batch_size)
        return EasinessCallback(at_steps=(early,), online=False, num_images=0, probe_batch_size=500)  # and at the end

    record = experiment.repeat("hard_examples", watch, hold_out=HOLD_OUT)
    kinds = kinds_of(record.score("held_out_correct").values, record.score("memorization").values)
    groups = groups_of(record.score("mean_loss", 0).values, wrong)
    rows = [row(name, chosen, kinds) for name, chosen in groups.items()]
    experiment.finish(rows, lambda figure: draw(figure, rows), finding(rows, experiment.setting))


def with_wrong_labels(experiment: Experiment) -> Tensor:
    """Make a share of the training labels wrong, and return which, bool (N,)."""
    data = experiment.data("hard_examples")
    train = data.train
    target = corrupt_labels(train.targets, WRONG, "uniform", seed=0)
    data.train = HeldPictures(train.images, target, train.classes)
    return target != train.targets


def kinds_of(held_out: Tensor, memorization: Tensor) -> Tensor:
    """Return 0 learnt, 1 memorised, 2 missed for each example, int64 (N,); -1 where no run left it out.

    `held_out` is the share of the runs that classify it correctly of those that left it out, and `memorization` how
    much larger it is for the others.
    """
    trained = held_out + memorization
    kinds = torch.where(held_out > 0.5, 0, torch.where(trained > 0.5, 1, 2))
    return torch.where(trained.isnan(), -1, kinds)


def groups_of(loss: Tensor, wrong: Tensor) -> dict[str, Tensor]:
    """Return the examples of each group, bool (N,): tenths of those whose label is right, and the wrong ones."""
    right = (~wrong).nonzero()[:, 0]
    order = right[loss[right].argsort(stable=True)]
    size = round(TENTH * len(right))
    drawn = right[torch.randperm(len(right), generator=torch.Generator().manual_seed(0))[:size]]
    chosen = {"easiest tenth": order[:size], "random tenth": drawn, "hardest tenth": order[-size:]}
    groups = {name: torch.zeros_like(wrong).index_fill_(0, index, True) for name, index in chosen.items()}
    return groups | {"wrong labels": wrong}


def row(name: str, chosen: Tensor, kinds: Tensor) -> dict[str, Any]:
    """Return the share of each kind in a group, with the standard error of the first two over examples."""
    of = kinds[chosen & (kinds >= 0)]
    shares = [float((of == kind).double().mean()) for kind in range(len(KINDS))]
    errors = [math.sqrt(share * (1 - share) / len(of)) for share in shares]
    return {"group": name, "examples": len(of), **dict(zip(KINDS, shares, strict=True)), "error": max(errors)}


def finding(rows: list[dict[str, Any]], setting: SimpleNamespace) -> str:
    """Say whether hard examples hold rare patterns, as the 2018 text has it: memorised more than learnt."""
    by = {row["group"]: row for row in rows}
    hard, drawn = by["hardest tenth"], by["random tenth"]
    gap, error = hard["memorised"] - hard["learnt"], 2 * (hard["error"] * 2)
    verdict = "cannot tell" if abs(gap) <= error else "agrees" if gap > 0 else "differs"
    said = "; ".join(
        f"{name} {row['learnt']:.0%} learnt, {row['memorised']:.0%} memorised, {row['missed']:.0%} missed"
        for name, row in by.items()
    )
    return (
        f"{verdict}: hard examples hold patterns of their own, so that more of them are memorised than learnt"
        f" ({setting.seeds} runs of {setting.epochs} epochs, each without {HOLD_OUT:.0%}; hard at epoch"
        f" {setting.early};"
        f" {hard['memorised'] / max(drawn['memorised'], 1e-9):.1f} times as many memorised as at random): {said}"
    )


def draw(figure: Any, rows: list[dict[str, Any]]) -> None:
    """Draw the shares of each group as a stacked bar."""
    axes = figure.subplots()
    names, left = [row["group"] for row in rows], [0.0] * len(rows)
    for kind in KINDS:
        shares = [row[kind] for row in rows]
        axes.barh(names, shares, left=left, label=kind)
        left = [a + b for a, b in zip(left, shares, strict=True)]
    axes.invert_yaxis()
    axes.set(xlabel="share of the examples", title="What runs say that did not train on them")
    axes.legend(loc="lower center", ncols=3, bbox_to_anchor=(0.5, -0.3))


if __name__ == "__main__":
    main()
