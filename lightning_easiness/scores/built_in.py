"""The scores that are built in, with the papers that they come from."""

from math import inf, sqrt

import torch
from torch import Tensor

from lightning_easiness import functional
from lightning_easiness.scores.definition import ScoreDefinition


def _mean(values: Tensor) -> Tensor:
    return values.mean(0)


def _count(correct: Tensor) -> Tensor:
    counts = functional.count_easiness(correct == 1)
    return counts.masked_fill(correct.isnan().any(0), torch.nan)


def _forgetting_events(correct: Tensor) -> Tensor:
    # where an example was not seen nothing was forgotten: the state in which it was seen last goes on
    seen = ~correct.isnan()
    checkpoint = torch.arange(len(correct)).unsqueeze(1)
    last_seen = torch.where(seen, checkpoint, 0).cummax(0).values
    events = functional.forgetting_events(correct.gather(0, last_seen) == 1)
    return events.float().masked_fill(~seen.any(0), torch.nan)


def _correctness(correct: Tensor) -> Tensor:
    return correct.nanmean(0)


def _early_agreement(correct: Tensor, early: float = 0.5) -> Tensor:
    return functional.early_agreement(correct == 1, early, seen=~correct.isnan())


_EASINESS_2018 = "Empirical Study of Easy and Hard Examples in CNN Training, 2018, eq. 1"
_EASINESS_2019 = "Empirical Study of Easy and Hard Examples in CNN Training (Kishida and Nakayama, 2019), eq. 1"
_SAMPLE_EASINESS = "Medium Samples Are All You Need: Sample Easiness-Aware Learning for Neural Networks, eq. 1"
_MARGIN = "Identifying Mislabeled Data using the Area Under the Margin Ranking (Pleiss et al., 2020)"
_EL2N = "Deep Learning on a Data Diet: Finding Important Examples Early in Training (Paul et al., 2021)"
_FORGETTING = "An Empirical Study of Example Forgetting during Deep Neural Network Learning (Toneva et al., 2019)"
_O2U = "O2U-Net: A Simple Noisy Label Detection Approach for Deep Neural Networks (Huang et al., 2019)"
_EARLY = "Early-Learning Regularization Prevents Memorization of Noisy Labels (Liu et al., 2020)"
_DATA_MAPS = "Dataset Cartography: Mapping and Diagnosing Datasets with Training Dynamics (Swayamdipta et al., 2020)"

BUILT_IN_SCORES = (
    ScoreDefinition(
        name="mean_loss",
        function=functional.mean_loss_easiness,
        fields=("loss",),
        per="checkpoint",
        higher_is_easier=False,
        range=(-inf, inf),  # from 0 for cross-entropy, but a loss of the user's may be anything
        paper=_EASINESS_2019,
        doc="Mean loss over runs.",
        mean_over_runs=True,
    ),
    ScoreDefinition(
        name="count",
        function=_count,
        fields=("correct",),
        per="checkpoint",
        higher_is_easier=True,
        range=(0.0, 1.0),
        paper=_EASINESS_2018,
        doc="Number of runs that classify the example correctly, over the largest such number.",
    ),
    ScoreDefinition(
        name="margin",
        function=_mean,
        fields=("margin",),
        per="checkpoint",
        higher_is_easier=True,
        range=(-inf, inf),
        paper=_MARGIN,
        doc="Mean over runs of the target logit less the largest other logit.",
        mean_over_runs=True,
    ),
    ScoreDefinition(
        name="sample_easiness",
        function=_mean,
        fields=("sample_easiness",),
        per="checkpoint",
        higher_is_easier=True,
        range=(0.0, 1.0),
        paper=_SAMPLE_EASINESS,
        doc="Mean over runs of the probability that the true class wins against each other class under noise.",
        mean_over_runs=True,
    ),
    ScoreDefinition(
        name="el2n",
        function=_mean,
        fields=("el2n",),
        per="checkpoint",
        higher_is_easier=False,
        range=(0.0, sqrt(2.0)),
        paper=_EL2N,
        doc="Mean over runs of the distance of the predicted probabilities from the one-hot label.",
        mean_over_runs=True,
    ),
    ScoreDefinition(
        name="area_under_margin",
        function=functional.area_under_margin,
        fields=("margin",),
        per="trajectory",
        higher_is_easier=True,
        range=(-inf, inf),
        paper=_MARGIN,
        doc="Mean margin over the checkpoints at which the example was seen.",
    ),
    ScoreDefinition(
        name="weighted_area_under_margin",
        function=functional.area_under_margin,
        fields=("margin",),
        per="trajectory",
        higher_is_easier=True,
        range=(-inf, inf),
        paper=f"The margin of {_MARGIN}; the weights are of this package",
        doc="Mean margin over checkpoints, weighted by how much they tell of labels (functional.learning_weights).",
        weights=functional.learning_weights,
    ),
    ScoreDefinition(
        name="area_under_loss",
        function=functional.area_under_loss,
        fields=("loss",),
        per="trajectory",
        higher_is_easier=False,
        range=(-inf, inf),
        paper=_O2U,
        doc="Mean loss over the checkpoints at which the example was seen.",
    ),
    ScoreDefinition(
        name="early_agreement",
        function=_early_agreement,
        fields=("correct",),
        per="trajectory",
        higher_is_easier=True,
        range=(0.0, 1.0),
        paper=_EARLY,
        doc="Share of the first half (option `early`) of the checkpoints that classify the example as its label says.",
    ),
    ScoreDefinition(
        name="forgetting_events",
        function=_forgetting_events,
        fields=("correct",),
        per="trajectory",
        higher_is_easier=False,
        range=(0.0, inf),
        paper=_FORGETTING,
        doc="Times that the example goes from correct to wrong; one that is never correct counts every checkpoint.",
    ),
    ScoreDefinition(
        name="confidence",
        function=functional.confidence,
        fields=("loss",),
        per="trajectory",
        higher_is_easier=True,
        range=(0.0, 1.0),
        paper=_DATA_MAPS,
        doc="Mean probability of the true class over the checkpoints at which the example was seen.",
        loss="cross_entropy",
    ),
    ScoreDefinition(
        name="weighted_confidence",
        function=functional.confidence,
        fields=("loss",),
        per="trajectory",
        higher_is_easier=True,
        range=(0.0, 1.0),
        paper=f"{_DATA_MAPS}; the weights are of this package",
        doc="Mean probability of the true class over checkpoints, weighted as weighted_area_under_margin is.",
        loss="cross_entropy",
        weights=functional.learning_weights,
    ),
    ScoreDefinition(
        name="variability",
        function=functional.variability,
        fields=("loss",),
        per="trajectory",
        higher_is_easier=False,
        range=(0.0, 0.5),
        paper=_DATA_MAPS,
        doc="Standard deviation of the probability of the true class over checkpoints; high is ambiguous, not hard.",
        loss="cross_entropy",
        ranks_difficulty=False,
    ),
    ScoreDefinition(
        name="correctness",
        function=_correctness,
        fields=("correct",),
        per="trajectory",
        higher_is_easier=True,
        range=(0.0, 1.0),
        paper=_DATA_MAPS,
        doc="Share of the checkpoints at which the example was seen that classify it correctly.",
    ),
)
