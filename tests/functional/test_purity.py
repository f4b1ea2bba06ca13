"""What holds for every function: inputs and the global random stream stay untouched, memory layout does not matter."""

import random
from collections.abc import Callable

import pytest
import torch

from lightning_easiness import functional

N, K = 12, 4


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def answers(*shape: int) -> torch.Tensor:
    return tensor(*shape) < 0.6


def labels() -> torch.Tensor:
    return torch.arange(N) % K


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# name of the function -> (its input tensors, the call)
CALLS: dict[str, tuple[list[torch.Tensor], Callable]] = {
    "mean_loss_easiness": ([tensor(3, N)], functional.mean_loss_easiness),
    "count_easiness": ([answers(3, N)], functional.count_easiness),
    "rank_by_easiness": (
        [torch.ones(N), torch.ones(N)],
        lambda values, loss: functional.rank_by_easiness(values, higher_is_easier=True, tie_breaker=loss),
    ),
    "easiest": ([torch.ones(N)], lambda values: functional.easiest(values, 0.5, higher_is_easier=True)),
    "hardest": ([torch.ones(N)], lambda values: functional.hardest(values, 0.5, higher_is_easier=False)),
    "matching_rate": ([torch.arange(N), torch.arange(3, N)], functional.matching_rate),
    "rank_correlation": ([tensor(N), tensor(N, seed=1)], functional.rank_correlation),
    "split_half_agreement": ([tensor(5, N)], functional.split_half_agreement),
    "extrapolate_agreement": ([tensor(1)[0]], lambda agreement: functional.extrapolate_agreement(agreement, 2)),
    "margin": ([tensor(N, K), labels()], functional.margin),
    "area_under_margin": ([tensor(3, N)], functional.area_under_margin),
    "area_under_margin, weighted": ([tensor(3, N), tensor(3)], functional.area_under_margin),
    "learning_weights": ([tensor(3)], functional.learning_weights),
    "area_under_loss": ([tensor(3, N)], functional.area_under_loss),
    "early_agreement": (
        [answers(3, N), tensor(3, N) < 0.8],
        lambda correct, seen: functional.early_agreement(correct, seen=seen),
    ),
    "forgetting_events": ([answers(3, N)], functional.forgetting_events),
    "el2n": ([tensor(N, K), labels()], functional.el2n),
    "confidence": ([tensor(3, N)], functional.confidence),
    "variability": ([tensor(3, N)], functional.variability),
    "correctness": ([answers(3, N)], functional.correctness),
    "sample_easiness": ([tensor(N, K), labels()], functional.sample_easiness),
    "sample_easiness, drawn": (
        [tensor(N, K), labels()],
        lambda logits, target: functional.sample_easiness(logits, target, method="monte_carlo", generator=generator()),
    ),
    "sample_easiness_loss": ([tensor(N, K), labels()], functional.sample_easiness_loss),
    "in_levels": ([tensor(N)], functional.in_levels),
    "in_levels_by_loss": ([tensor(N), tensor(N, seed=1)], functional.in_levels_by_loss),
    "corrupt_labels": ([labels()], lambda target: functional.corrupt_labels(target, 0.5)),
    "threshold_examples": ([labels()], lambda target: functional.threshold_examples(target, K)),
    "flag_by_threshold": ([tensor(N)], lambda values: functional.flag_by_threshold(values, 0.5)),
    "refine_by_sample_easiness": (
        [answers(N), tensor(N)],
        lambda flagged, easiness: functional.refine_by_sample_easiness(flagged, easiness, "hard"),
    ),
    "suggest_labels": ([tensor(N, K).softmax(1), labels()], functional.suggest_labels),
    "self_confidence": ([tensor(N, K).softmax(1), labels()], functional.self_confidence),
    "normalized_margin": ([tensor(N, K).softmax(1), labels()], functional.normalized_margin),
    "confident_joint": ([tensor(N, K).softmax(1), labels()], functional.confident_joint),
    "estimate_wrong_share": ([tensor(N, K).softmax(1), labels()], functional.estimate_wrong_share),
    "replace_confidence": ([tensor(N, K).softmax(1), labels(), tensor(N)], functional.replace_confidence),
    "confidence, weighted": ([tensor(3, N), tensor(3)], functional.confidence),
    "easiness_level": ([tensor(N)], functional.easiness_level),
    "medium_sample_rate": ([tensor(N)], functional.medium_sample_rate),
    "expected_sample_easiness_error": ([tensor(N), answers(N)], functional.expected_sample_easiness_error),
    "interpolate_grey": ([tensor(2, 3, 4, 6)], lambda images: functional.interpolate_grey(images, 0.5)),
    "shuffle_tiles": ([tensor(2, 3, 4, 6)], lambda images: functional.shuffle_tiles(images, 0.5, generator())),
    "radial_mask": ([tensor(2, 3, 4, 6)], lambda images: functional.radial_mask(images, 1.5)),
}
every_call = pytest.mark.parametrize("name", CALLS)


def test_every_function_is_public():
    names = {name.split(",")[0] for name in CALLS} | {"fraction_to_count"}
    assert names <= set(functional.__all__)
    assert all(callable(getattr(functional, name)) for name in names)


@every_call
def test_inputs_are_left_as_they_were(name):
    inputs, call = CALLS[name]
    given = [argument.clone() for argument in inputs]
    result = call(*given)
    assert all(torch.equal(before, after) for before, after in zip(inputs, given, strict=True))
    # A result that shared memory with its input would change with it.
    result.copy_(torch.zeros_like(result))
    assert all(torch.equal(before, after) for before, after in zip(inputs, given, strict=True))


@every_call
def test_the_global_random_stream_is_neither_read_nor_moved(name):
    inputs, call = CALLS[name]
    results = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            random.seed(seed)
            before = torch.get_rng_state(), random.getstate()
            results.append(call(*inputs))
            assert torch.equal(torch.get_rng_state(), before[0])
            assert random.getstate() == before[1]
    assert torch.equal(*results)


@pytest.mark.parametrize("call", ["sample_easiness", "shuffle_tiles"])
def test_a_draw_without_a_generator_leaves_the_global_stream(call):
    before = torch.get_rng_state()
    if call == "sample_easiness":
        functional.sample_easiness(tensor(N, K), labels(), method="monte_carlo")
    else:
        functional.shuffle_tiles(tensor(2, 3, 4, 6), 0.5, None)
    assert torch.equal(torch.get_rng_state(), before)


@every_call
def test_a_strided_view_gives_what_a_copy_gives(name):
    inputs, call = CALLS[name]
    views = []
    for argument in inputs:
        spaced = (
            torch.zeros(*argument.shape[:-1], 2 * argument.shape[-1], dtype=argument.dtype) if argument.ndim else None
        )
        if spaced is None:
            views.append(argument)
            continue
        spaced[..., ::2] = argument
        views.append(spaced[..., ::2])
    torch.testing.assert_close(call(*views), call(*inputs), rtol=1e-6, atol=1e-7)
