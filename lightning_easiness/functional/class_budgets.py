"""Draws within each class, so that each keeps its share of what is kept."""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional._rng import draw_seed, generator
from lightning_easiness.functional._sorting import narrowed
from lightning_easiness.functional.sampling import positions

Draw = Callable[[Tensor, int, int], Tensor]  # members (m,), number to keep, seed -> positions among the members


def in_each_class(draw: Draw, classes: Tensor, num_kept: int, seed: int) -> Tensor:
    """Return what a draw within each class keeps, ascending; each keeps its proportion up to less than one example."""
    source = generator(seed)
    groups = groups_of(classes)
    counts = _largest_remainder([len(members) for members in groups], num_kept, source)
    # One seed per class, also for classes that keep nothing, so that a class's draw does not depend on other counts.
    kept = [
        members[draw(members, count, seed)]
        for members, count, seed in zip(groups, counts, [draw_seed(source) for _ in groups], strict=True)
        if count
    ]
    return torch.cat(kept).sort().values


def groups_of(labels: Tensor) -> list[Tensor]:
    """Return the indices of each label, ascending within a label."""
    ordered, order = narrowed(labels).sort(stable=True)
    starts = positions(ordered[1:] != ordered[:-1]) + 1
    return list(torch.tensor_split(order, starts))


def check_classes(owner: str, target: Tensor | None, class_balanced: bool, name: str, values: Tensor) -> Tensor | None:
    """Return the classes on the CPU, or None if the draw is not balanced."""
    if target is not None:
        check.integers(owner, "target", target)
        check.same_length(owner, "target", target, name, values)
    if not class_balanced:
        return None
    if target is None:
        must, way = "be given with class_balanced=True", "give the class of each example, integers of shape (N,)"
        check.refuse(owner, "target", must, None, way)
    if bool((target < 0).any()):
        got = f"{int((target < 0).sum())} of {len(target)} below 0, which are unknown labels"
        check.refuse(owner, "target", "be at least 0", got, "set class_balanced=False, or leave those examples out")
    return target.detach().cpu().long()


def _largest_remainder(sizes: list[int], total: int, source: torch.Generator) -> list[int]:
    """Split `total` in proportion to the sizes, rounded down; the largest remainders get one more."""
    n = sum(sizes)
    counts = [size * total // n for size in sizes]
    shuffled = torch.randperm(len(sizes), generator=source).tolist()
    for winner in sorted(shuffled, key=lambda i: -(sizes[i] * total % n))[: total - sum(counts)]:
        counts[winner] += 1
    return counts
