"""Generators for random decisions, for all of this package: the same draw for a seed and a purpose in every process."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9)


def mixed_seed(seed: int, *purpose: int) -> int:
    """Mix a seed with the numbers of its purpose, such as (epoch, batch), into a seed in [0, 2^63).

    torch's CPU generator uses only the lower half of a seed, so both halves must differ.
    """
    mixed = seed
    for position, number in enumerate(purpose):
        mixed = (mixed * _MULTIPLIERS[position % 2] + number + position) % 2**63
    return mixed


def generator(seed: int, *purpose: int) -> torch.Generator:
    """Return a CPU generator for one decision."""
    return torch.Generator().manual_seed(mixed_seed(seed, *purpose))


def draw_seed(source: torch.Generator) -> int:
    """Draw a seed from a generator."""
    return int(torch.randint(2**62, (), generator=source))


def separate_generator(seed: int, purpose: int) -> torch.Generator:
    """Return a generator independent of the one with `seed` itself and of those for other purposes."""
    parent = generator(seed)
    seeds = [draw_seed(parent) for _ in range(purpose + 1)]
    return generator(seeds[purpose])


# ------------------------------------------------------------------------------------------------- a draw per example

_GOLDEN, _FIRST, _SECOND = (value - 2**64 for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_at_hand: ContextVar[Tensor | None] = ContextVar("examples", default=None)


@contextmanager
def of_examples(index: Tensor) -> Iterator[None]:
    """Let functions of a batch draw for the examples of these indices, int64 (B,), for a block."""
    token = _at_hand.set(index)
    try:
        yield
    finally:
        _at_hand.reset(token)


def draws_of_examples(size: int, number: int, device: torch.device) -> Tensor:
    """Return `number` random integers for each of `size` examples, int64 (B, number), alike whenever one is drawn for.

    An example is known by its index within `of_examples`, and else by its position.
    """
    index = _at_hand.get()
    if index is None or len(index) != size:
        index = torch.arange(size)
    keys = index.to(device)[:, None] * _GOLDEN + torch.arange(1, number + 1, device=device)
    return _scrambled(_scrambled(keys) + _GOLDEN)


def _scrambled(bits: Tensor) -> Tensor:
    """Mix the bits of integers (the finalizer of SplitMix64)."""
    bits = (bits ^ ((bits >> 30) & (2**34 - 1))) * _FIRST
    bits = (bits ^ ((bits >> 27) & (2**37 - 1))) * _SECOND
    return bits ^ ((bits >> 31) & (2**33 - 1))
