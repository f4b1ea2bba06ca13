"""Generators for random decisions, for all of this package: the same draw for a seed and a purpose in every process."""

import torch

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
