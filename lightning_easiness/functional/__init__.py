"""The definitions as functions of tensors, with torch as the only dependency.

An argument of the wrong type raises TypeError, one of the wrong shape or value ValueError; the message is one sentence
with the argument, the value and the way out. No function changes its inputs or the global RNG state. Unless a docstring
says otherwise, results are float32 (float64 for float64 input) and on the device of the input; NaN means unknown and is
left out, and a result without any known input is NaN. Functions for use in a training step (`margin`, `el2n`,
`sample_easiness`, its loss and its levels) never read a value back from the device, so on an accelerator a target
outside [0, K) raises torch's own error.
"""

from lightning_easiness.functional.agreement import (
    expected_matching_rate,
    extrapolate_agreement,
    matching_matrix,
    matching_rate,
    rank_correlation,
    split_half_agreement,
    split_half_matching,
)
from lightning_easiness.functional.contradiction import (
    Contradiction,
    TieGap,
    confidently_contradicted,
    contradicted_beyond_slowness,
    gap_at_tie,
)
from lightning_easiness.functional.courses import alignment, most_aligned, running_mean
from lightning_easiness.functional.dynamic import (
    dealt_share,
    hardest_of_pool,
    inclusion_weights,
    prune_below_mean,
    prune_in_windows,
    random_share,
    undecided_of_pool,
    window_means,
)
from lightning_easiness.functional.dynamics import (
    area_under_loss,
    area_under_margin,
    confidence,
    correctness,
    early_agreement,
    el2n,
    forgetting_events,
    learning_weights,
    margin,
    variability,
)
from lightning_easiness.functional.easiness import (
    count_easiness,
    easiest,
    fraction_to_count,
    hardest,
    mean_loss_easiness,
    rank_by_easiness,
    selection_probability,
)
from lightning_easiness.functional.held_out import (
    difference_error,
    generalization_gap,
    held_out_part,
    mean_over_runs,
    memorization,
)
from lightning_easiness.functional.label_noise import corrupt_labels
from lightning_easiness.functional.label_quality import (
    ThresholdComparison,
    compare_to_thresholds,
    confident_joint,
    estimate_wrong_share,
    flag_by_threshold,
    normalized_margin,
    refine_by_sample_easiness,
    replace_confidence,
    self_confidence,
    suggest_labels,
    threshold_examples,
    threshold_of,
)
from lightning_easiness.functional.levels import (
    easiness_level,
    in_levels,
    in_levels_by_count,
    in_levels_by_loss,
    medium_sample_rate,
)
from lightning_easiness.functional.mixture import TwoGroups, split_by_gap, split_by_mixture
from lightning_easiness.functional.patterns import interpolate_grey, pattern_series, radial_mask, shuffle_tiles
from lightning_easiness.functional.prediction import (
    class_accuracy,
    max_probability,
    most_predicted_class,
    worst_class_accuracy,
)
from lightning_easiness.functional.pruning import ablate, relabel
from lightning_easiness.functional.sample_easiness import expected_sample_easiness_error, sample_easiness
from lightning_easiness.functional.sample_easiness_loss import sample_easiness_loss
from lightning_easiness.functional.sampling import weighted_sample
from lightning_easiness.functional.systematic import inclusion_probability, systematic_sample
from lightning_easiness.functional.targets import (
    dense_loss,
    dense_margin,
    multi_label_loss,
    multi_label_margin,
    soft_cross_entropy,
)
from lightning_easiness.functional.uncertainty import draw_by_dual, dual, dynamic_uncertainty, tdds

__all__ = [
    "Contradiction",
    "ThresholdComparison",
    "TieGap",
    "TwoGroups",
    "ablate",
    "alignment",
    "area_under_loss",
    "area_under_margin",
    "class_accuracy",
    "compare_to_thresholds",
    "confidence",
    "confident_joint",
    "confidently_contradicted",
    "contradicted_beyond_slowness",
    "correctness",
    "corrupt_labels",
    "count_easiness",
    "dealt_share",
    "dense_loss",
    "dense_margin",
    "difference_error",
    "draw_by_dual",
    "dual",
    "dynamic_uncertainty",
    "early_agreement",
    "easiest",
    "easiness_level",
    "el2n",
    "estimate_wrong_share",
    "expected_matching_rate",
    "expected_sample_easiness_error",
    "extrapolate_agreement",
    "flag_by_threshold",
    "forgetting_events",
    "fraction_to_count",
    "gap_at_tie",
    "generalization_gap",
    "hardest",
    "hardest_of_pool",
    "held_out_part",
    "in_levels",
    "in_levels_by_count",
    "in_levels_by_loss",
    "inclusion_probability",
    "inclusion_weights",
    "interpolate_grey",
    "learning_weights",
    "margin",
    "matching_matrix",
    "matching_rate",
    "max_probability",
    "mean_loss_easiness",
    "mean_over_runs",
    "medium_sample_rate",
    "memorization",
    "most_aligned",
    "most_predicted_class",
    "multi_label_loss",
    "multi_label_margin",
    "normalized_margin",
    "pattern_series",
    "prune_below_mean",
    "prune_in_windows",
    "radial_mask",
    "random_share",
    "rank_by_easiness",
    "rank_correlation",
    "refine_by_sample_easiness",
    "relabel",
    "replace_confidence",
    "running_mean",
    "sample_easiness",
    "sample_easiness_loss",
    "selection_probability",
    "self_confidence",
    "shuffle_tiles",
    "soft_cross_entropy",
    "split_by_gap",
    "split_by_mixture",
    "split_half_agreement",
    "split_half_matching",
    "suggest_labels",
    "systematic_sample",
    "tdds",
    "threshold_examples",
    "threshold_of",
    "undecided_of_pool",
    "variability",
    "weighted_sample",
    "window_means",
    "worst_class_accuracy",
]


def __getattr__(name: str) -> object:
    if name == "judge_by_threshold":  # an ImportError passes `from ... import`, which swallows an AttributeError
        raise ImportError(
            "lightning_easiness.functional has no 'judge_by_threshold' any more: use compare_to_thresholds."
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
