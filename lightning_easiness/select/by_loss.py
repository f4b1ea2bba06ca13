"""Rules that go by the last loss or margin of each example in training: no pass over the data, no further forward."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness.functional.dynamic import check_left_out, check_pool
from lightning_easiness.functional.systematic import check_importance
from lightning_easiness.select.base import Needs, Selected, SelectionState
from lightning_easiness.select.schedule import Scheduled


class _ByLast(Scheduled):
    """Goes by the last value of one field, the loss or another, that training has seen of each example."""

    needs = Needs(every="epoch", fields=("loss",), online=True)

    @override
    def select_part(self, state: SelectionState) -> Tensor | Selected:
        assert state.observed is not None  # else the epoch is on everything
        return self.by_last(state.observed[self.needs.fields[0]], state)

    @abstractmethod
    def by_last(self, values: Tensor, state: SelectionState) -> Tensor | Selected:
        """Return what to train on by the last values, NaN where there is none."""


class _ShareByLast(_ByLast):
    """Takes an exact share of all examples."""

    share: float

    @override
    def fewest(self, num_examples: int) -> int:
        return functional.fraction_to_count(self.share, num_examples)


class InfoBatch(_ByLast):
    """Leaves out a random share of the examples whose last loss is below the mean, and weighs up the rest of them.

    "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning" (Qin et al., 2024). An example below the
    mean that is kept has the weight 1 / (1 - share), so that the gradients of an epoch add up, on average over the
    draws, to those of an epoch on everything. The last epochs are on everything. How many examples are left out is not
    chosen: it is `share` of those below the mean, which are more the more skewed the losses are.

    Losses are those of the training forward, through the Trainer's EasinessCallback, which is required; an example that
    was never seen is kept and counts once, and the first epoch is on everything. The weights reach the
    losses per example that the training step returns, or a loss that takes them; see `WeighsExamples`.

    Measured on small networks (docs/train-less.md), it was not found to beat its control.

    Args:
        share: Fraction to leave out of the examples below the mean, in [0, 1).
        early_epochs: Epochs on everything at the beginning: a whole number, or a fraction of all, as 0.125.
        final_epochs: The same at the end; the paper has an eighth.
        seed: Seed of the draws.

    Raises:
        ValueError: If an argument is out of range. When training starts: `final_epochs` without max_epochs, or nothing
            is ever left out.
        TypeError: Before the first gradients: nothing takes the weights. Where the module optimizes by hand, this is
            known when training starts.

    Example:
        >>> import torch
        >>> observed = {"loss": torch.tensor([0.1, 4.0, 0.2, 0.3, 0.4])}
        >>> selected = InfoBatch().select(SelectionState(5, epoch=1, observed=observed))
        >>> selected.kept, selected.weights
        (tensor([0, 1, 4]), tensor([2., 1., 2., 2., 2.]))
    """

    needs = Needs(every="epoch", fields=("loss",), online=True, weights=True)

    def __init__(
        self, share: float = 0.5, *, early_epochs: float = 0, final_epochs: float = 0.125, seed: int = 0
    ) -> None:
        check_left_out("InfoBatch", share)
        self.set_schedule(early_epochs, final_epochs)
        self.share, self.seed = share, seed

    @override
    def by_last(self, values: Tensor, state: SelectionState) -> Selected:
        return Selected(*functional.prune_below_mean(values, self.share, generator=state.generator()))


class OrderDP(_ShareByLast):
    """Draws a random pool of the examples and trains on the hardest of it, by their last losses.

    "OrderDP: A Theoretically Guaranteed Lossless Dynamic Data Pruning Framework" (Jin et al., 2026). The number of
    examples is exact and there are no weights. The loss of an example is refreshed when it is trained on, and stays as
    it was while it is left out. With pool=1 it is the hardest share by last loss, with pool=share a random share; in
    between, examples that have become easy come back by chance, and those with wrong labels, which stay hard, are not
    in every epoch.

    Losses are those of the training forward, through the Trainer's EasinessCallback, which is required; an example that
    was never seen is the hardest, and the first epoch is on everything.

    Measured on small networks (docs/train-less.md), it beats its control by half a point on Fashion-MNIST
    where labels are right, not on CIFAR-10, and is points below it where 40 % of the labels are wrong.

    Args:
        share: Fraction of all examples to train on in each epoch, in (0, 1].
        pool: Fraction of all examples that is drawn first, in [share, 1].
        early_epochs: Epochs on everything at the beginning: a whole number, or a fraction of all, as 0.125.
        final_epochs: The same at the end.
        seed: Seed of the draws.

    Raises:
        ValueError: If an argument is out of range. When training starts: `final_epochs`, or a fraction, without
            max_epochs; nothing is ever selected; or the share leaves no batch.

    Example:
        >>> import torch
        >>> observed = {"loss": torch.tensor([0.1, 4.0, 0.2, 0.3])}
        >>> OrderDP(0.5, pool=1).select(SelectionState(4, epoch=1, observed=observed))
        tensor([1, 3])
    """

    def __init__(
        self,
        share: float = 0.5,
        pool: float = 0.8,
        *,
        early_epochs: float = 0,
        final_epochs: float = 0,
        seed: int = 0,
    ) -> None:
        check_pool("OrderDP", share, pool)
        self.set_schedule(early_epochs, final_epochs)
        self.share, self.pool, self.seed = share, pool, seed

    @override
    def by_last(self, values: Tensor, state: SelectionState) -> Tensor:
        return functional.hardest_of_pool(values, self.share, self.pool, generator=state.generator())


class Undecided(_ShareByLast):
    """Trains on the examples that the model is least decided about, by their last margins.

    Undecided is what is nearest to the decision boundary: the logit of the label and the largest other one are as good
    as equal. The rule leaves out what the model has learnt, and what it contradicts with confidence, such as examples
    with wrong labels. So nothing must be switched: with clean labels it trains on most of the hard examples, with wrong
    labels it does not. "Active Bias: Training More Accurate Neural Networks by Emphasizing High Variance Samples"
    (Chang et al., 2017) samples by closeness to the threshold; here the share is exact, without weights, and closeness
    is that of logits.

    Margins are those of the training forward, through the Trainer's EasinessCallback, which is required; an example
    that was never seen is undecided, and the first epoch is on everything. A margin of an example that is left out
    stays as it was: with pool=1 it comes back when others have become more certain, with a smaller pool also by chance.

    Measured on small networks (docs/train-less.md), it beats its control by a point where 40 % of the labels
    of Fashion-MNIST are wrong; on CIFAR-10 with right labels it is most of a point below it.

    Args:
        share: Fraction of all examples to train on in each epoch, in (0, 1].
        pool: Fraction of all examples that is drawn first, in [share, 1], as in `OrderDP`.
        early_epochs: Epochs on everything at the beginning: a whole number, or a fraction of all, as 0.125.
        final_epochs: The same at the end.
        seed: Seed of the draws.

    Raises:
        ValueError: If an argument is out of range. When training starts: the task has no margins; `final_epochs`, or a
            fraction, without max_epochs; nothing is ever selected; or the share leaves no batch.

    Example:
        >>> import torch
        >>> from lightning_easiness import SelectionState
        >>> observed = {"margin": torch.tensor([5.0, -6.0, 0.5, -0.2])}
        >>> Undecided(0.5).select(SelectionState(4, epoch=1, observed=observed))
        tensor([2, 3])
    """

    needs = Needs(every="epoch", fields=("margin",), online=True)

    def __init__(
        self,
        share: float = 0.5,
        pool: float = 1.0,
        *,
        early_epochs: float = 0,
        final_epochs: float = 0,
        seed: int = 0,
    ) -> None:
        check_pool("Undecided", share, pool)
        self.set_schedule(early_epochs, final_epochs)
        self.share, self.pool, self.seed = share, pool, seed

    @override
    def by_last(self, values: Tensor, state: SelectionState) -> Tensor:
        return functional.undecided_of_pool(values, self.share, self.pool, generator=state.generator())


class ImportanceSampling(_ShareByLast):
    """Draws examples with a probability that goes with the root of their last loss, and weighs by its inverse.

    Importance sampling: a step has the least variance where the probability of an example goes with the norm of its
    gradient ("Not All Samples Are Created Equal: Deep Learning with Importance Sampling", Katharopoulos and Fleuret,
    2018), which for a smooth loss is at most in proportion to the root of the loss. Here an epoch is drawn at once,
    without replacement, with exactly these probabilities (`functional.systematic_sample`); with the weights 1 /
    probability its gradients add up, on average over the draws, to those of an epoch on everything.

    Losses are those of the training forward, through the Trainer's EasinessCallback, which is required; an example that
    was never seen counts as the hardest, and the first epoch is on everything. The weights reach the
    losses per example that the training step returns, or a loss that takes them; see `WeighsExamples`.

    Measured on small networks (docs/train-less.md), it was not found to beat its control.

    Args:
        share: Fraction of all examples to train on in each epoch, in (0, 1].
        power: Of the loss: 0.5 for its root, 0 for a random share.
        uniform: Part of the probability that is the same for all, in [0, 1]: no weight is above 1 / (uniform * share).
        early_epochs: Epochs on everything at the beginning: a whole number, or a fraction of all, as 0.125.
        final_epochs: The same at the end.
        seed: Seed of the draws.

    Raises:
        ValueError: If an argument is out of range. When training starts: `final_epochs`, or a fraction, without
            max_epochs; nothing is ever selected; or the share leaves no batch.
        TypeError: Before the first gradients: nothing takes the weights. Where the module optimizes by hand, this is
            known when training starts.

    Example:
        >>> import torch
        >>> observed = {"loss": torch.tensor([1.0, 4.0, 0.0, 1.0])}
        >>> selected = ImportanceSampling(0.5).select(SelectionState(4, epoch=1, observed=observed))
        >>> selected.kept, selected.weights
        (tensor([0, 1]), tensor([ 2.0000,  1.1111, 10.0000,  2.0000]))
    """

    needs = Needs(every="epoch", fields=("loss",), online=True, weights=True)

    def __init__(
        self,
        share: float = 0.5,
        *,
        power: float = 0.5,
        uniform: float = 0.2,
        early_epochs: float = 0,
        final_epochs: float = 0,
        seed: int = 0,
    ) -> None:
        check_importance("ImportanceSampling", share, power, uniform)
        self.set_schedule(early_epochs, final_epochs)
        self.share, self.power, self.uniform, self.seed = share, power, uniform, seed

    @override
    def by_last(self, values: Tensor, state: SelectionState) -> Selected:
        probability = functional.inclusion_probability(values, self.share, power=self.power, uniform=self.uniform)
        weights = probability.reciprocal().nan_to_num(posinf=0.0)  # of what is never drawn
        return Selected(functional.systematic_sample(probability, generator=state.generator()), weights)
