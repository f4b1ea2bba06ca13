"""The built-in scores: name, field, easy end, range and paper of each, as a decorator of its function.

For the arguments see `ScoreDefinition.function`. The docstring is the sentence shown to users who choose a score.
"""

from collections.abc import Callable
from functools import partial
from math import inf, sqrt
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_easiness import functional
from lightning_easiness.scores.definition import ScoreDefinition, register_score

_EASINESS_2018 = "Empirical Study of Easy and Hard Examples in CNN Training, 2018, eq. 1"
_PROBABILITY = "Empirical Study of Easy and Hard Examples in CNN Training, 2018, Figure 5"
_EASINESS_2019 = "Empirical Study of Easy and Hard Examples in CNN Training (Kishida and Nakayama, 2019), eq. 1"
_SAMPLE_EASINESS = "Medium Samples Are All You Need: Sample Easiness-Aware Learning for Neural Networks, eq. 1"
_MARGIN = "Identifying Mislabeled Data using the Area Under the Margin Ranking (Pleiss et al., 2020)"
_EL2N = "Deep Learning on a Data Diet: Finding Important Examples Early in Training (Paul et al., 2021)"
_FORGETTING = "An Empirical Study of Example Forgetting during Deep Neural Network Learning (Toneva et al., 2019)"
_O2U = "O2U-Net: A Simple Noisy Label Detection Approach for Deep Neural Networks (Huang et al., 2019)"
_EARLY = "Early-Learning Regularization Prevents Memorization of Noisy Labels (Liu et al., 2020)"
_DATA_MAPS = "Dataset Cartography: Mapping and Diagnosing Datasets with Training Dynamics (Swayamdipta et al., 2020)"
_DUAL = (
    "Lightweight Dataset Pruning without Full Training via Example Difficulty and Prediction Uncertainty (Cho et al.,"
    " 2025)"
)
_DYNAMIC_UNCERTAINTY = "Large-scale Dataset Pruning with Dynamic Uncertainty (He et al., 2024)"
_TDDS = (
    "Spanning Training Progress: Temporal Dual-Depth Scoring for Enhanced Dataset Pruning (Zhang et al., 2024), of the"
    " label's part of the divergence"
)
_HELD_OUT = "Out-of-sample prediction, as in cross-validation (Stone, 1974)"
_MEMORIZATION = "What Neural Networks Memorize and Why (Feldman and Zhang, 2020), eq. 1"
_OWN = "; the weights are of this package"

_ANY, _UNIT = (-inf, inf), (0.0, 1.0)  # a user's loss may have any value


def _score(
    per: Literal["checkpoint", "trajectory"],
    name: str,
    field: str,
    easy: Literal["low", "high"],
    range: tuple[float, float],
    paper: str,
    **more: Any,
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        doc = function.__doc__ or ""
        register_score(ScoreDefinition(name, function, (field,), per, easy == "high", range, paper, doc, **more))
        return function

    return register


_at_checkpoint = partial(_score, "checkpoint", mean_over_runs=True)
_over_training = partial(_score, "trajectory")
_weighted = partial(_over_training, weights=functional.learning_weights)


@_at_checkpoint("mean_loss", "loss", "low", _ANY, _EASINESS_2019)
def _mean_loss(loss: Tensor) -> Tensor:
    """Mean loss over runs."""
    return functional.mean_loss_easiness(loss)


@_at_checkpoint("count", "correct", "high", _UNIT, _EASINESS_2018, mean_over_runs=False)
def _count(correct: Tensor, trained_on: Tensor | None = None) -> Tensor:
    """Count the runs that classify the example correctly, divided by the maximum over examples."""
    unknown = correct.isnan() if trained_on is None else correct.isnan() & trained_on
    return functional.count_easiness(correct == 1, trained_on).masked_fill(unknown.any(0), torch.nan)


@_at_checkpoint("classification_probability", "correct", "high", _UNIT, _PROBABILITY)
def _classification_probability(correct: Tensor) -> Tensor:
    """Fraction of the runs that classify the example correctly."""
    return correct.mean(0)


@_at_checkpoint("margin", "margin", "high", _ANY, _MARGIN)
def _margin(margin: Tensor) -> Tensor:
    """Mean over runs of the target logit minus the largest other logit."""
    return margin.mean(0)


@_at_checkpoint("sample_easiness", "sample_easiness", "high", _UNIT, _SAMPLE_EASINESS)
def _sample_easiness(easiness: Tensor) -> Tensor:
    """Mean over runs of the probability that the true class wins over every other class under noise."""
    return easiness.mean(0)


@_at_checkpoint("weakest_comparison", "weakest_comparison", "high", _UNIT, _SAMPLE_EASINESS)
def _weakest_comparison(weakest: Tensor) -> Tensor:
    """Mean over runs of the smallest probability that the true class wins over another class under noise."""
    return weakest.mean(0)


@_at_checkpoint("el2n", "el2n", "low", (0.0, sqrt(2.0)), _EL2N)
def _el2n(el2n: Tensor) -> Tensor:
    """Mean over runs of the distance of the predicted probabilities from the one-hot label."""
    return el2n.mean(0)


@_over_training("area_under_margin", "margin", "high", _ANY, _MARGIN)
def _area_under_margin(margin: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean margin over the checkpoints at which the example was seen."""
    return functional.area_under_margin(margin, weights)


@_weighted("weighted_area_under_margin", "margin", "high", _ANY, f"The margin of {_MARGIN}{_OWN}")
def _weighted_area_under_margin(margin: Tensor, weights: Tensor) -> Tensor:
    """Mean margin over checkpoints, weighted by how much the model still learns (functional.learning_weights)."""
    return functional.area_under_margin(margin, weights)


@_over_training("area_under_loss", "loss", "low", _ANY, _O2U)
def _area_under_loss(loss: Tensor) -> Tensor:
    """Mean loss over the checkpoints at which the example was seen."""
    return functional.area_under_loss(loss)


@_over_training("early_agreement", "correct", "high", _UNIT, _EARLY)
def _early_agreement(correct: Tensor, early: float = 0.5) -> Tensor:
    """Fraction of the first half (option `early`) of the checkpoints at which the prediction is the label."""
    return functional.early_agreement(correct == 1, early, seen=~correct.isnan())


@_over_training("forgetting_events", "correct", "low", (0.0, inf), _FORGETTING)
def _forgetting_events(correct: Tensor) -> Tensor:
    """Count how often the example goes from correct to wrong; one that is never correct counts every checkpoint."""
    seen = ~correct.isnan()
    checkpoint = torch.arange(len(correct)).unsqueeze(1)
    last_seen = torch.where(seen, checkpoint, 0).cummax(0).values  # unseen counts as unchanged
    events = functional.forgetting_events(correct.gather(0, last_seen) == 1)
    return events.float().masked_fill(~seen.any(0), torch.nan)


@_over_training("confidence", "loss", "high", _UNIT, _DATA_MAPS, loss="cross_entropy")
def _confidence(loss: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean probability of the true class over the checkpoints at which the example was seen."""
    return functional.confidence(loss, weights)


@_weighted("weighted_confidence", "loss", "high", _UNIT, f"{_DATA_MAPS}{_OWN}", loss="cross_entropy")
def _weighted_confidence(loss: Tensor, weights: Tensor) -> Tensor:
    """Mean probability of the true class over checkpoints, weighted as in weighted_area_under_margin."""
    return functional.confidence(loss, weights)


@_over_training("variability", "loss", "low", (0.0, 0.5), _DATA_MAPS, loss="cross_entropy", ranks_difficulty=False)
def _variability(loss: Tensor) -> Tensor:
    """Compute the standard deviation of the true class's probability over checkpoints; high is ambiguous, not hard."""
    return functional.variability(loss)


@_over_training("correctness", "correct", "high", _UNIT, _DATA_MAPS)
def _correctness(correct: Tensor) -> Tensor:
    """Fraction of checkpoints with a correct prediction, among those at which the example was seen."""
    return correct.nanmean(0)


# ------------------------------------------------------------------------------------------ for pruning: keep the high

_uncertain = partial(_over_training, field="loss", easy="low", loss="cross_entropy", ranks_difficulty=False)


@_uncertain("dual", range=(0.0, 2 / sqrt(27)), paper=_DUAL)
def _dual(loss: Tensor, window: int = 10) -> Tensor:
    """Mean over windows of checkpoints of (1 - mean) times deviation of the label's probability; keep the highest."""
    return functional.dual(loss, window)


@_uncertain("dynamic_uncertainty", range=(0.0, sqrt(0.5)), paper=_DYNAMIC_UNCERTAINTY)
def _dynamic_uncertainty(loss: Tensor, window: int = 10) -> Tensor:
    """Mean over windows of checkpoints of the label's probability's standard deviation; keep the highest."""
    return functional.dynamic_uncertainty(loss, window)


@_uncertain("tdds", range=(0.0, 9.22), paper=_TDDS)
def _tdds(loss: Tensor, window: int = 10, decay: float = 0.9) -> Tensor:
    """Exponential mean over windows of checkpoints of the deviation of the loss's changes; keep the highest."""
    return functional.tdds(loss, window, decay)


# --------------------------------------------------------------------------------------------- of runs that hold out


@_at_checkpoint("held_out_loss", "loss", "low", _ANY, _HELD_OUT, over="held_out")
def _held_out_loss(loss: Tensor) -> Tensor:
    """Mean loss over the runs that did not train on the example."""
    return loss.mean(0)


@_at_checkpoint("held_out_correct", "correct", "high", _UNIT, _HELD_OUT, over="held_out")
def _held_out_correct(correct: Tensor) -> Tensor:
    """Fraction of the runs that did not train on the example that classify it correctly."""
    return correct.mean(0)


_compared = partial(_score, "checkpoint", over="both", spread=functional.difference_error)


@_compared("memorization", "correct", "low", (-1.0, 1.0), _MEMORIZATION)
def _memorization(correct: Tensor, trained_on: Tensor) -> Tensor:
    """Mean correctness of the runs that trained on the example minus that of the others; spread: standard error."""
    return functional.memorization(correct == 1, trained_on).masked_fill(correct.isnan().any(0), torch.nan)


@_compared("generalization_gap", "loss", "low", _ANY, _HELD_OUT)
def _generalization_gap(loss: Tensor, trained_on: Tensor) -> Tensor:
    """Mean loss of the runs that did not train on the example minus that of the others; spread: standard error."""
    return functional.generalization_gap(loss, trained_on)
