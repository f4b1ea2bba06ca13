"""Scores of what was observed in training: margins, forgetting, EL2N and data maps.

Of a trajectory, (C, N), what is NaN was not seen and does not count; an example that was never seen is NaN. Results are
float32, or float64 for float64 input.
"""

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional.easiness import fraction_to_count


def margin(logits: Tensor, target: Tensor) -> Tensor:
    """Return the target logit less the largest other logit, (N,): in (-inf, inf), HIGH is easy, below 0 is a mistake.

    The quantity that "Identifying Mislabeled Data using the Area Under the Margin Ranking" (Pleiss et al., 2020)
    averages over training. NaN where the difference is not defined.

    Args:
        logits: Floating point, shape (N, K), K >= 2; left as they are.
        target: Class indices in [0, K), integers, shape (N,).

    Example:
        >>> margin(torch.tensor([[3.0, 1.0, 0.5], [0.0, 2.0, 5.0]]), torch.tensor([0, 1]))
        tensor([ 2., -3.])
    """
    logits, target = check.logits("margin", logits, target)
    index = target.unsqueeze(1)
    # The fastest of ten formulations at (256, 10): half the time of topk, which sorts more than is needed.
    try:
        largest_other = logits.scatter(1, index, -torch.inf).amax(1)
    except RuntimeError:
        check.target_range("margin", logits, target)
        raise
    return logits.gather(1, index).squeeze(1) - largest_other


def area_under_margin(margin: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean margin over checkpoints, (N,): in (-inf, inf), HIGH is easy, the lowest may be label errors.

    From "Identifying Mislabeled Data using the Area Under the Margin Ranking" (Pleiss et al., 2020), which has no
    weights.

    Args:
        margin: Margin at each checkpoint, floating point, shape (C, N).
        weights: How much each checkpoint counts, at least 0, floating point, shape (C,), as `learning_weights` gives
            them; None for all alike. Where all that an example was seen at are 0, they count alike.

    Example:
        >>> area_under_margin(torch.tensor([[1.0, -2.0], [3.0, float("nan")]]), torch.tensor([0.75, 0.25]))
        tensor([ 1.5000, -2.0000])
    """
    margin = check.floating("area_under_margin", "margin", margin, "checkpoint")
    return _mean_over_checkpoints("area_under_margin", margin, weights)


def learning_weights(accuracy: Tensor) -> Tensor:
    """Return weights of checkpoints, (C,), by what they say of labels: t (a (1 - a))^2, t = 1, 2, ..., a the accuracy.

    a (1 - a) is the variance of being right: once a model is right on all examples, it has memorised label errors too,
    and its margins say nothing of them. Until then later checkpoints say more than early ones, which is what t is for.
    Chosen on human errors in CIFAR-10, see examples/results/label_issues_cifar10n.md.

    Args:
        accuracy: Fraction of the examples that the model gets right under their given labels at each checkpoint, in
            [0, 1], floating point, shape (C,), in the order of the training.

    Example:
        >>> learning_weights(torch.tensor([0.0, 0.5, 0.5, 1.0]))
        tensor([0.0000, 0.1250, 0.1875, 0.0000])
    """
    accuracy = check.floating("learning_weights", "accuracy", accuracy, "N")
    check.unit_interval("learning_weights", "accuracy", accuracy, "fractions of the examples")
    moment = torch.arange(1, len(accuracy) + 1, device=accuracy.device)
    return moment * (accuracy * (1 - accuracy)).square()


def area_under_loss(loss: Tensor) -> Tensor:
    """Return the mean loss over checkpoints, (N,): in [0, inf) for cross-entropy, LOW is easy, high may be an error.

    The criterion of "O2U-Net: A Simple Noisy Label Detection Approach for Deep Neural Networks" (Huang et al., 2019),
    which there is averaged over a training with a cyclical learning rate.

    Args:
        loss: Loss at each checkpoint, floating point, shape (C, N).

    Example:
        >>> area_under_loss(torch.tensor([[1.0, 0.5], [3.0, float("nan")]]))
        tensor([2.0000, 0.5000])
    """
    return check.floating("area_under_loss", "loss", loss, "checkpoint").nanmean(dim=0)


def early_agreement(correct: Tensor, early: float = 0.5, seen: Tensor | None = None) -> Tensor:
    """Return the fraction of early checkpoints, (N,), at which the model agrees with the label: in [0, 1], 1 is easy.

    A network learns what most labels say before it memorises label errors, as "Early-Learning Regularization Prevents
    Memorization of Noisy Labels" (Liu et al., 2020) shows, so that later agreement says less of a label.

    Args:
        correct: Whether each example is classified as its label says, bool or integers 0 and 1, shape (C, N), in the
            order of training.
        early: Fraction of the checkpoints that count, the first ones, in (0, 1]; rounded half up, at least one.
        seen: Whether each example was seen at each checkpoint, bool, shape (C, N); others do not count. None: all were.

    Example:
        >>> early_agreement(torch.tensor([[True, False], [True, False], [True, True], [True, True]]))
        tensor([1., 0.])
    """
    correct = check.correct("early_agreement", correct, "checkpoint")
    check.fraction("early_agreement", early, "early", "the first half is 0.5")
    seen = torch.ones_like(correct) if seen is None else seen
    check.mask("early_agreement", "seen", seen, ndim=2)
    check.same_length("early_agreement", "seen", seen, "correct", correct)
    number = fraction_to_count(early, len(correct))
    return (correct[:number] & seen[:number]).sum(0) / seen[:number].sum(0)


def forgetting_events(correct: Tensor) -> Tensor:
    """Return how often each example goes from correct to wrong, int64 (N,): in [0, C], LOW is easy.

    From "An Empirical Study of Example Forgetting during Deep Neural Network Learning" (Toneva et al., 2019). There an
    example that is never learnt is forgotten infinitely often; here it counts C, which no other example can reach and
    so is the hardest in the same way.

    Args:
        correct: Whether each example is classified correctly at each checkpoint, bool or integers 0 and 1, shape
            (C, N), in the order of training.

    Example:
        >>> forgetting_events(torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 0]]))
        tensor([2, 0, 4])
    """
    correct = check.correct("forgetting_events", correct, "checkpoint")
    events = (correct[:-1] & ~correct[1:]).sum(dim=0)
    return torch.where(correct.any(dim=0), events, len(correct))


def el2n(logits: Tensor, target: Tensor) -> Tensor:
    """Return the length of the error, || softmax(logits) - onehot(target) ||_2, (N,): in [0, sqrt(2)], LOW is easy.

    From "Deep Learning on a Data Diet: Finding Important Examples Early in Training" (Paul et al., 2021), where it is
    averaged over 10 runs, a few epochs in. NaN where a logit is NaN or +inf.

    Args:
        logits: Floating point, shape (N, K), K >= 2.
        target: Class indices in [0, K), integers, shape (N,).

    Example:
        >>> el2n(torch.tensor([[0.0, 0.0], [200.0, 0.0], [0.0, 200.0]]), torch.tensor([0, 0, 0]))
        tensor([0.7071, 0.0000, 1.4142])
    """
    logits, target = check.logits("el2n", logits, target)
    # softmax is weights / weights.sum(1); one division at the end is a third of its time for few classes.
    weights = (logits - logits.detach().amax(1, keepdim=True)).exp_()
    try:
        others = weights.scatter(1, target.unsqueeze(1), 0.0)
    except RuntimeError:
        check.target_range("el2n", logits, target)
        raise
    # At the target the error is 1 - p. As the sum of the others it keeps its digits where p rounds to 1.
    return torch.hypot(others.sum(1), torch.linalg.vector_norm(others, dim=1)) / weights.sum(1)


def confidence(loss: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean probability of the true class over checkpoints, (N,): in [0, 1], HIGH is easy.

    Mean of exp(-loss), one axis of the data maps of "Dataset Cartography: Mapping and Diagnosing Datasets with Training
    Dynamics" (Swayamdipta et al., 2020).

    Args:
        loss: Cross-entropy at each checkpoint, floating point, shape (C, N); another loss gives no probability.
        weights: How much each checkpoint counts, as in `area_under_margin`.

    Example:
        >>> confidence(-torch.tensor([[0.2, 0.9], [0.4, 0.9]]).log())
        tensor([0.3000, 0.9000])
    """
    probability = (-check.floating("confidence", "loss", loss, "checkpoint")).exp()
    return _mean_over_checkpoints("confidence", probability, weights)


def variability(loss: Tensor) -> Tensor:
    """Return the spread of the probability of the true class over checkpoints, (N,): in [0, 0.5], high is ambiguous.

    Population standard deviation of exp(-loss), the other axis of the data maps of "Dataset Cartography" (see
    `confidence`). It is low for easy and for hard examples.

    Args:
        loss: Cross-entropy at each checkpoint, floating point, shape (C, N); another loss gives no probability.

    Example:
        >>> variability(-torch.tensor([[0.2, 0.9], [0.4, 0.9]]).log())
        tensor([0.1000, 0.0000])
    """
    probability = (-check.floating("variability", "loss", loss, "checkpoint")).exp()
    # Written out, as std() warns about an empty tensor.
    return (probability - probability.nanmean(dim=0)).square().nanmean(dim=0).sqrt()


def correctness(correct: Tensor) -> Tensor:
    """Return the fraction of checkpoints at which an example is classified correctly, (N,): in [0, 1], 1 is easiest.

    The colour of the data maps of "Dataset Cartography" (see `confidence`).

    Args:
        correct: Whether each example is classified correctly, bool or integers 0 and 1, shape (C, N).

    Example:
        >>> correctness(torch.tensor([[True, False], [True, True]]))
        tensor([1.0000, 0.5000])
    """
    return check.correct("correctness", correct, "checkpoint").float().mean(dim=0)


def _mean_over_checkpoints(owner: str, rows: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean of (C, N) over the checkpoints that are not NaN, weighted where there are weights (C,)."""
    plain = rows.nanmean(dim=0)
    if weights is None:
        return plain
    weights = check.floating(owner, "weights", weights)
    if weights.shape != rows.shape[:1] or not bool((weights.isfinite() & (weights >= 0)).all()):
        must = f"be finite numbers of at least 0, one per checkpoint, ({rows.shape[0]},)"
        got = f"{weights.flatten().tolist()[:10]} of shape {tuple(weights.shape)}"
        check.refuse(owner, "weights", must, got)
    column = weights.to(rows).unsqueeze(1)
    total = (~rows.isnan() * column).sum(0)
    return torch.where(total > 0, (rows * column).nansum(0) / total, plain)
