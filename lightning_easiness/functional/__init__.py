"""Tensors in, tensors out: the definitions, with torch as the only dependency."""

from lightning_easiness.functional.agreement import (
    extrapolate_agreement,
    matching_rate,
    rank_correlation,
    split_half_agreement,
)
from lightning_easiness.functional.dynamics import (
    area_under_margin,
    confidence,
    correctness,
    el2n,
    forgetting_events,
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
)
from lightning_easiness.functional.patterns import interpolate_grey, radial_mask, shuffle_tiles
from lightning_easiness.functional.sample_easiness import (
    easiness_level,
    expected_sample_easiness_error,
    medium_sample_rate,
    sample_easiness,
)
from lightning_easiness.functional.selection import ablate, relabel
from lightning_easiness.functional.weighted_sampling import weighted_sample

__all__ = [
    "ablate",
    "area_under_margin",
    "confidence",
    "correctness",
    "count_easiness",
    "easiest",
    "easiness_level",
    "el2n",
    "expected_sample_easiness_error",
    "extrapolate_agreement",
    "forgetting_events",
    "fraction_to_count",
    "hardest",
    "interpolate_grey",
    "margin",
    "matching_rate",
    "mean_loss_easiness",
    "medium_sample_rate",
    "radial_mask",
    "rank_by_easiness",
    "rank_correlation",
    "relabel",
    "sample_easiness",
    "shuffle_tiles",
    "split_half_agreement",
    "variability",
    "weighted_sample",
]
