"""Which examples an epoch trains on, by what the epochs before it have shown: the rules of dynamic data pruning.

All draws are made on the CPU, from the generator that is given, so that every device and every rank gets the same
examples. NaN is the loss of an example that was never seen: it is taken for the hardest, so that it is kept.
"""

import math

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional._rng import generator as generator_of
from lightning_easiness.functional.easiness import fraction_to_count, round_half_up
from lightning_easiness.functional.sampling import positions, smallest, uniform_keys


def random_share(num_examples: int, share: float, *, generator: torch.Generator) -> Tensor:
    """Return the indices of a random share of the examples, int64 (n,), ASCENDING.

    With a fresh share in each epoch this is "Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning"
    (Okanovic et al., 2024), with replacement between epochs.

    Args:
        num_examples: N, at least 1.
        share: Fraction of them, in (0, 1]; rounded half up, at least one example.
        generator: Source of the draw, on the CPU. N numbers are drawn from it.

    Example:
        >>> random_share(6, 0.5, generator=torch.Generator().manual_seed(0))
        tensor([1, 2, 4])
    """
    check.at_least("random_share", "num_examples", num_examples, least=1)
    check.fraction("random_share", share, "share", "half is 0.5")
    return drawn(num_examples, fraction_to_count(share, num_examples), generator)


def drawn(num_examples: int, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` random indices below `num_examples`, ascending."""
    return positions(smallest(uniform_keys(num_examples, generator), count))


def dealt_share(num_examples: int, share: float, epoch: int, *, seed: int = 0) -> Tensor:
    """Return the indices that an epoch trains on where whole passes are dealt out over epochs, int64 (n,), ASCENDING.

    A pass is a random order of all examples. Each epoch takes the next share of it, and the last epoch of a pass is
    filled up from its beginning. So a pass, of ceil(1 / share) epochs, has each example once, or twice where it does
    not come out even: two epochs of 0.7 have 40 % of the examples twice. "Repeated Random Sampling for Minimizing the
    Time-to-Accuracy of Learning" (Okanovic et al., 2024), without replacement.

    Args:
        num_examples: N, at least 1.
        share: Fraction of an epoch, in (0, 1]; rounded up, so that a pass has no epoch for the rest of a rounding.
        epoch: Number of the epoch, from 0.
        seed: Seed of the orders.

    Example:
        >>> torch.cat([dealt_share(6, 0.5, epoch) for epoch in range(2)]).sort().values
        tensor([0, 1, 2, 3, 4, 5])
    """
    check.at_least("dealt_share", "num_examples", num_examples, least=1)
    check.fraction("dealt_share", share, "share", "half is 0.5")
    check.at_least("dealt_share", "epoch", epoch, least=0)
    count = dealt_count(share, num_examples)
    number, place = divmod(epoch, -(-num_examples // count))
    order = torch.randperm(num_examples, generator=generator_of(seed, number))
    return marked(num_examples, order.roll(-place * count)[:count])


def dealt_count(share: float, num_examples: int) -> int:
    """Return how many examples an epoch takes that is dealt a share of N."""
    return max(1, math.ceil(round(share * num_examples, 6)))  # 1/11 of 11 is 1.0000000000000002 by its digits


def marked(num_examples: int, indices: Tensor) -> Tensor:
    """Return indices that are each there once in ascending order; faster than to sort millions."""
    mask = torch.zeros(num_examples, dtype=torch.bool)
    mask[indices] = True
    return positions(mask)


def prune_below_mean(loss: Tensor, share: float, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Leave out a random share of the examples whose loss is below the mean: those that are kept, and all weights.

    An example below the mean, of n of which k are kept, has the weight n / k, which is 1 / (1 - share) but for
    rounding; all others have 1. So the sum of weight times any value over those kept is, on average over the draws,
    the sum over all examples. "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning" (Qin et al.,
    2024).

    Args:
        loss: Loss of each example, LOW is easy, floating point, shape (N,). NaN, never seen, and infinite losses are
            above the mean, which is that of the others.
        share: Fraction to leave out of those below the mean, in [0, 1); rounded half up, at least one stays.
        generator: Source of the draw, on the CPU.

    Returns:
        The indices kept, int64 (n,), ASCENDING; and the weight of each example, (N,).

    Example:
        >>> loss = torch.tensor([0.1, 4.0, 0.2, 0.3, 0.4])
        >>> prune_below_mean(loss, 0.5, generator=torch.Generator().manual_seed(0))
        (tensor([1, 2, 3]), tensor([2., 1., 2., 2., 2.]))
    """
    loss = check.floating("prune_below_mean", "loss", loss, "N")
    check_left_out("prune_below_mean", share)
    losses = loss.detach().cpu()
    below = losses < losses[losses.isfinite()].to(torch.float64).mean()
    easy = positions(below)
    left = len(easy) - min(round_half_up(share, len(easy)), max(len(easy) - 1, 0))
    kept = ~below
    kept[easy[drawn(len(easy), left, generator)]] = True
    weight = torch.where(below, len(easy) / max(left, 1), 1.0).to(loss.dtype)
    return positions(kept).to(loss.device), weight.to(loss.device)


def check_left_out(owner: str, share: float) -> None:
    """Raise ValueError unless a share to leave out is in [0, 1)."""
    if not (check.is_number(share) and 0 <= share < 1):
        check.refuse(owner, "share", "be in [0, 1)", share, "it is the fraction to leave out, half of them is 0.5")


def hardest_of_pool(loss: Tensor, share: float, pool: float, *, generator: torch.Generator) -> Tensor:
    """Return the hardest of a random pool of the examples, int64 (n,), ASCENDING.

    Draws the fraction `pool` of all examples uniformly and keeps those with the highest losses of it, so that the
    fraction `share` of all is left: exactly so many, without weights. "OrderDP: A Theoretically Guaranteed Lossless
    Dynamic Data Pruning Framework" (Jin et al., 2026). With a pool of 1 these are the hardest of all; with a pool
    equal to the share a random share.

    Args:
        loss: Loss of each example, LOW is easy, floating point, shape (N,). NaN, never seen, is the hardest. Ties are
            broken at random.
        share: Fraction of all examples to keep, in (0, 1]; rounded half up, at least one.
        pool: Fraction of all examples to choose from, in [share, 1].
        generator: Source of the draw, on the CPU.

    Example:
        >>> loss = torch.tensor([0.1, 4.0, 0.2, 0.3])
        >>> hardest_of_pool(loss, 0.5, 1.0, generator=torch.Generator().manual_seed(0))
        tensor([1, 3])
    """
    owner = "hardest_of_pool"
    loss = check.floating(owner, "loss", loss, "N")
    check_pool(owner, share, pool)
    return _highest_of_pool(loss, share, pool, generator)


def _highest_of_pool(values: Tensor, share: float, pool: float, generator: torch.Generator) -> Tensor:
    size, on_cpu = len(values), values.detach().cpu()
    among = torch.randperm(size, generator=generator)[: fraction_to_count(pool, size)]
    height = on_cpu[among].to(torch.float64).nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    highest = smallest(height.neg_(), fraction_to_count(share, size))
    return marked(size, among[highest]).to(values.device)


def undecided_of_pool(margin: Tensor, share: float, pool: float, *, generator: torch.Generator) -> Tensor:
    """Return the examples of a random pool that are nearest to the decision boundary, int64 (n,), ASCENDING.

    Nearest is the smallest absolute margin: what is classified with confidence, rightly or not as its label says, is
    left out. Else as `hardest_of_pool`.

    Args:
        margin: Logit of the label minus the largest other one, floating point, shape (N,), as `margin` returns. NaN,
            never seen, is the nearest. Ties are broken at random.
        share: Fraction of all examples to keep, in (0, 1]; rounded half up, at least one.
        pool: Fraction of all examples to choose from, in [share, 1].
        generator: Source of the draw, on the CPU.

    Example:
        >>> margin = torch.tensor([5.0, -6.0, 0.5, -0.2])
        >>> undecided_of_pool(margin, 0.5, 1.0, generator=torch.Generator().manual_seed(0))
        tensor([2, 3])
    """
    owner = "undecided_of_pool"
    margin = check.floating(owner, "margin", margin, "N")
    check_pool(owner, share, pool)
    return _highest_of_pool(-margin.abs(), share, pool, generator)


def check_pool(owner: str, share: float, pool: float) -> None:
    """Raise ValueError unless a share to keep is in (0, 1], and the pool that it is taken from in [share, 1]."""
    check.fraction(owner, share, "share", "half is 0.5")
    if not (check.is_number(pool) and share <= pool <= 1):
        way = "both are fractions of all examples"
        check.refuse(owner, "pool", f"be in [share, 1], [{share:g}, 1]", pool, way)


def prune_in_windows(
    loss: Tensor, window_loss: Tensor, was_in: Tensor, share: float, *, generator: torch.Generator
) -> Tensor:
    """Return the indices to train on next by losses that are compared within a window alone, int64 (n,), ASCENDING.

    Of the examples of the last epoch, those with a loss below the mean of their window, the batch that they were in,
    are left out with the probability `share`; those that were not in it are put back with the probability
    1 - `share`. "Inconsistency Biases in Dynamic Data Pruning" (Zhou et al., 2026), where it is RePB with a window of
    one batch, in which all losses are of the same weights of the model. See `inclusion_weights` for its weights.

    Args:
        loss: Last loss of each example, LOW is easy, floating point, shape (N,). NaN, never seen, is kept where the
            example was in the last epoch.
        window_loss: Mean loss of the batch that the loss was observed in, (N,).
        was_in: Whether the example was in the last epoch, bool, (N,).
        share: Probability to leave out, in [0, 1).
        generator: Source of the draw, on the CPU. N numbers are drawn from it.

    Example:
        >>> loss, batch = torch.tensor([0.1, 4.0, 0.2, 0.3]), torch.tensor([2.05, 2.05, 0.25, 0.25])
        >>> was_in = torch.tensor([True, True, True, True])
        >>> prune_in_windows(loss, batch, was_in, 0.5, generator=torch.Generator().manual_seed(0))
        tensor([0, 1, 3])
    """
    owner = "prune_in_windows"
    loss = check.floating(owner, "loss", loss, "N")
    window_loss = check.floating(owner, "window_loss", window_loss, "N")
    check.same_length(owner, "window_loss", window_loss, "loss", loss)
    check.mask(owner, "was_in", was_in)
    check.same_length(owner, "was_in", was_in, "loss", loss)
    check_left_out(owner, share)
    is_hard = (~(loss < window_loss) & was_in).cpu()
    return positions(is_hard | (uniform_keys(len(loss), generator) >= share)).to(loss.device)


def window_means(loss: Tensor, window: Tensor) -> Tensor:
    """Return the mean loss of the window that each example was in, (N,), of those whose loss is known; NaN for none.

    Args:
        loss: Loss of each example, floating point, shape (N,); NaN or infinite is unknown.
        window: Number of its window, such as the batch that it was last in, integers, shape (N,).

    Example:
        >>> window_means(torch.tensor([0.0, 4.0, 0.25, 0.75]), torch.tensor([1, 1, 7, 7]))
        tensor([2.0000, 2.0000, 0.5000, 0.5000])
    """
    loss = check.floating("window_means", "loss", loss, "N")
    check.integers("window_means", "window", window)
    check.same_length("window_means", "window", window, "loss", loss)
    numbers, places = torch.unique(window, return_inverse=True)
    known, exact = loss.isfinite(), check.exact_dtype(loss)
    sums = loss.new_zeros(len(numbers), dtype=exact).index_add_(0, places, loss.masked_fill(~known, 0).to(exact))
    counts = loss.new_zeros(len(numbers), dtype=exact).index_add_(0, places, known.to(exact))
    return (sums / counts)[places].to(loss.dtype)


def inclusion_weights(times: Tensor, epochs: int) -> Tensor:
    """Return the weight of each example by how often it was trained on, (N,): epochs / times; NaN for never.

    Over many epochs an example then counts as often as if each epoch had been on everything. The weights of
    "Inconsistency Biases in Dynamic Data Pruning" (Zhou et al., 2026).

    Args:
        times: In how many of the epochs each example was, the coming one included, integers, shape (N,).
        epochs: Number of epochs, the coming one included, at least 1.

    Example:
        >>> inclusion_weights(torch.tensor([4, 2, 1, 0]), epochs=4)
        tensor([1., 2., 4., nan])
    """
    check.integers("inclusion_weights", "times", times)
    check.at_least("inclusion_weights", "epochs", epochs, least=1)
    return torch.where(times > 0, epochs / times, torch.nan)
