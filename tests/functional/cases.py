"""Each public function of `lightning_easiness.functional` with arguments that it takes, for the tests of them all."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_easiness import functional

N, K = 12, 4  # examples and classes; no other side of an input is N


class Case(NamedTuple):
    """A call of a public function: its tensors, its other arguments, and whether each example is scored by itself."""

    owner: str
    inputs: dict[str, Tensor]
    options: dict[str, Any]
    is_per_example: bool

    def __call__(self, **changes: Any) -> tuple[Tensor, ...]:
        """Return the results, however many there are; a generator is drawn from as if it were new."""
        arguments = {**self.inputs, **self.options, **changes}
        if "generator" in arguments:
            arguments["generator"].manual_seed(0)
        if self.owner == "compare_to_thresholds":
            arguments["threshold_indices"] = list(arguments["threshold_indices"])
        result = getattr(functional, self.owner)(**arguments)
        return tuple(result) if isinstance(result, tuple) else (result,)


def whole(owner: str, **arguments: Any) -> Case:
    """A function of all examples together."""
    tensors = {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
    options = {name: value for name, value in arguments.items() if name not in tensors}
    return Case(owner, tensors, options, is_per_example=False)


def each(owner: str, **arguments: Any) -> Case:
    """A function whose result for an example depends on that example alone."""
    return whole(owner, **arguments)._replace(is_per_example=True)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


SCORE, OTHER, ROWS, WEIGHTS = uniform(N), uniform(N, seed=1), uniform(3, N), uniform(3, seed=2)
TARGET = torch.arange(N) % K
LEVEL_OF = {"easiness": SCORE, "weakest_comparison": SCORE.sqrt()}
LOGITS = {"logits": uniform(N, K), "target": TARGET}
OUTPUTS = {"logits": uniform(N, K).softmax(1), "target": TARGET, "probabilities": True}
PROBABILITIES = {"probabilities": uniform(N, K).softmax(1), "given": TARGET}
CORRECT, SEEN, MASK = ROWS < 0.6, uniform(3, N, seed=3) < 0.8, OTHER < 0.6
LABELS = {"logits": 4 * uniform(N, K) - 2, "target": (uniform(N, K, seed=5) < 0.4).long()}
SOFT = {"logits": 4 * uniform(N, K), "target": uniform(N, K, seed=6).softmax(1)}
DENSE_TARGET = torch.arange(N * 5).reshape(N, 5) % K
DENSE = {"logits": 4 * uniform(N, K, 5), "target": DENSE_TARGET.masked_fill(uniform(N, 5, seed=7) < 0.2, 3)}
TRAINED_ON = (torch.arange(5)[:, None] + torch.arange(N)) % 5 < 3  # three runs of five, others for each example
IMAGES = uniform(N, 3, 4, 6)
TWO_GROUPS = torch.cat([SCORE[:6], OTHER[:6] + 9])

CASES = [
    each("mean_loss_easiness", loss=ROWS),
    whole("count_easiness", correct=CORRECT),
    whole("count_easiness", correct=uniform(5, N) < 0.6, trained_on=TRAINED_ON),
    each("most_predicted_class", prediction=(ROWS * K).long()),
    whole("class_accuracy", correct=MASK, target=TARGET),
    whole("worst_class_accuracy", correct=MASK, target=TARGET),
    each("max_probability", loss=SCORE, margin=OTHER - 0.5),
    whole("rank_by_easiness", values=torch.ones(N), tie_breaker=torch.ones(N), higher_is_easier=True),
    whole("easiest", values=torch.ones(N), fraction=0.5, higher_is_easier=True),
    whole("hardest", values=torch.zeros(N), fraction=0.5, higher_is_easier=False),
    whole("selection_probability", values=(3 * SCORE).round(), fraction=0.5, higher_is_easier=True),
    whole("expected_matching_rate", a=SCORE, b=OTHER),
    whole("matching_rate", a=torch.arange(N - 1), b=torch.arange(3, N)),
    whole("matching_rate", a=MASK, b=SCORE < 0.5),
    whole("matching_matrix", a=uniform(2, N), b=uniform(3, N, seed=1)),
    whole("matching_matrix", a=uniform(2, N) < 0.5, b=uniform(3, N, seed=1) < 0.6),
    whole("rank_correlation", a=SCORE, b=OTHER),
    whole("split_half_agreement", values=uniform(5, N)),
    whole("split_half_agreement", values=uniform(5, N), counts=TRAINED_ON),
    whole("split_half_matching", values=uniform(5, N), fraction=0.3, higher_is_easier=True),
    whole("split_half_matching", values=uniform(5, N), fraction=0.3, higher_is_easier=True, counts=TRAINED_ON),
    whole("held_out_part", num_examples=N, place=3, share=0.3),
    each("mean_over_runs", values=uniform(5, N), counts=TRAINED_ON),
    each("memorization", correct=uniform(5, N) < 0.6, trained_on=TRAINED_ON),
    each("generalization_gap", loss=uniform(5, N), trained_on=TRAINED_ON),
    each("difference_error", values=uniform(5, N), trained_on=TRAINED_ON),
    each("extrapolate_agreement", agreement=SCORE, factor=2),
    each("margin", **LOGITS),
    each("area_under_margin", margin=ROWS),
    each("area_under_margin", margin=ROWS, weights=WEIGHTS),
    whole("learning_weights", accuracy=WEIGHTS),
    each("area_under_loss", loss=ROWS),
    each("early_agreement", correct=CORRECT, seen=SEEN),
    each("forgetting_events", correct=CORRECT),
    each("el2n", **LOGITS),
    each("soft_cross_entropy", **SOFT),
    each("multi_label_loss", **LABELS),
    each("multi_label_margin", **LABELS),
    each("dense_loss", **DENSE),
    each("dense_margin", **DENSE),
    each("dense_loss", **DENSE, ignore_index=3),
    each("dense_margin", **DENSE, ignore_index=3),
    each("confidence", loss=ROWS),
    each("confidence", loss=ROWS, weights=WEIGHTS),
    each("variability", loss=ROWS),
    each("correctness", correct=CORRECT),
    each("dual", loss=uniform(5, N), window=3),
    each("dynamic_uncertainty", loss=uniform(5, N), window=3),
    each("tdds", loss=uniform(5, N), window=3),
    whole("draw_by_dual", dual=OTHER, confidence=SCORE, ratio=0.5),
    whole("draw_by_dual", dual=OTHER, confidence=SCORE, ratio=0.5, class_balanced=True, target=TARGET),
    each("sample_easiness", **LOGITS),
    each("sample_easiness", **LOGITS, per_class=True),
    each("sample_easiness", **OUTPUTS),
    whole("sample_easiness", **LOGITS, method="monte_carlo"),
    whole("sample_easiness", **LOGITS, method="monte_carlo", generator=torch.Generator()),
    each("sample_easiness_loss", **LOGITS, reduction="none"),
    each("sample_easiness_loss", **OUTPUTS, reduction="none"),
    whole("sample_easiness_loss", **LOGITS),
    each("easiness_level", **LEVEL_OF),
    whole("medium_sample_rate", **LEVEL_OF),
    whole("expected_sample_easiness_error", easiness=SCORE, correct=MASK),
    each("in_levels", **LEVEL_OF),
    whole("in_levels_by_count", loss=OTHER, num_hard=3, num_medium=5),
    whole("in_levels_by_loss", loss=OTHER, **LEVEL_OF),
    *(
        whole("ablate", values=SCORE, ratio=0.5, sampling=sampling, higher_is_easier=True)
        for sampling in ("proportional", "beta", "stratified")
    ),
    whole("ablate", values=torch.ones(N), ratio=0.5, sampling="top", higher_is_easier=True, tie_breaker=torch.ones(N)),
    whole("ablate", values=torch.ones(N), ratio=0.5, sampling="window", higher_is_easier=True),
    whole("ablate", values=SCORE, ratio=0.5, remove="random", higher_is_easier=True),
    whole("ablate", values=SCORE, ratio=0.5, higher_is_easier=True, class_balanced=True, target=TARGET),
    each("running_mean", mean=SCORE, value=OTHER),
    each("alignment", losses=uniform(5, N), reference=uniform(5, seed=2)),
    whole("most_aligned", alignment=SCORE, share=0.4, generator=torch.Generator()),
    whole("relabel", target=TARGET, indices=torch.arange(3, 8), noise="uniform", num_classes=K),
    whole("relabel", target=TARGET, indices=torch.arange(3, 8), noise="next_class", num_classes=K),
    whole("random_share", num_examples=N, share=0.5, generator=torch.Generator()),
    whole("dealt_share", num_examples=N, share=0.4, epoch=4),
    whole("prune_below_mean", loss=SCORE, share=0.5, generator=torch.Generator()),
    whole("hardest_of_pool", loss=SCORE, share=0.3, pool=0.7, generator=torch.Generator()),
    whole("undecided_of_pool", margin=SCORE - 0.5, share=0.3, pool=0.7, generator=torch.Generator()),
    whole("prune_in_windows", loss=SCORE, window_loss=OTHER, was_in=MASK, share=0.5, generator=torch.Generator()),
    whole("window_means", loss=SCORE, window=TARGET),
    each("inclusion_weights", times=1 + torch.arange(N) % 4, epochs=4),
    whole("inclusion_probability", values=SCORE, share=0.5),
    whole("systematic_sample", probability=SCORE, generator=torch.Generator()),
    whole("weighted_sample", weights=SCORE, count=5),
    whole("weighted_sample", weights=SCORE, count=5, generator=torch.Generator()),
    whole("corrupt_labels", target=TARGET, ratio=0.5),
    whole("corrupt_labels", target=TARGET, ratio=0.5, noise="uniform"),
    whole("corrupt_labels", target=TARGET, ratio=None, noise=torch.full((K, K), 0.25)),
    whole("threshold_examples", target=TARGET, num_classes=K),
    whole("threshold_of", values=SCORE),
    each("flag_by_threshold", values=SCORE, threshold=0.5),
    whole("compare_to_thresholds", values=ROWS, threshold_indices=torch.tensor([[0, 2], [1, 3], [4, 5]])),
    each("refine_by_sample_easiness", flagged=MASK, easiness=SCORE.round(), weakest_comparison=SCORE.round()),
    whole("split_by_mixture", values=TWO_GROUPS),
    whole("split_by_gap", values=TWO_GROUPS),
    whole("contradicted_beyond_slowness", margin=TWO_GROUPS),
    whole("gap_at_tie", margin=TWO_GROUPS),
    whole("confidently_contradicted", confidence=OTHER, margin=SCORE - 0.5),
    each("suggest_labels", **PROBABILITIES),
    each("self_confidence", **PROBABILITIES),
    each("normalized_margin", **PROBABILITIES),
    whole("confident_joint", **PROBABILITIES),
    whole("estimate_wrong_share", **PROBABILITIES),
    each("replace_confidence", **PROBABILITIES, confidence=OTHER),
    each("interpolate_grey", images=IMAGES, alpha=0.5),
    whole("shuffle_tiles", images=IMAGES, tile_size=0.5),
    whole("shuffle_tiles", images=IMAGES, tile_size=0.5, generator=torch.Generator()),
    each("radial_mask", images=IMAGES, radius=1.5),
]
