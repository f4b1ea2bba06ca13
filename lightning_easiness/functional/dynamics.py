"""Scores from the course of training: margins, forgetting, EL2N and data maps.

In a trajectory, (C, N), NaN means that an example was not seen at a checkpoint, which then does not count; an example
that was never seen gets NaN. Results are float32, or float64 for float64 input.
"""

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional.easiness import fraction_to_count


def margin(logits: Tensor, target: Tensor) -> Tensor:
    """Return the target logit minus the largest other logit, (N,): in (-inf, inf), HIGH is easy, below 0 is a mistake.

    "Identifying Mislabeled Data using the Area Under the Margin Ranking" (Pleiss et al., 2020) averages this over
    training. NaN where the difference is not defined.

    Args:
        logits: Floating point, shape (N, K), K >= 2.
        target: Class indices in [0, K), integers, shape (N,).

    Example:
        >>> margin(torch.tensor([[3.0, 1.0, 0.5], [0.0, 2.0, 5.0]]), torch.tensor([0, 1]))
        tensor([ 2., -3.])
    """
    logits, target = check.logits("margin", logits, target)
    index = target.unsqueeze(1)
    # The fastest of ten formulations at (256, 10): half the time of topk, which sorts more than needed.
    try:
        largest_other = logits.scatter(1, index, -torch.inf).amax(1)
    except RuntimeError:
        check.target_range("margin", logits, target)
        raise
    return logits.gather(1, index).squeeze(1) - largest_other


def area_under_margin(margin: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean margin over checkpoints, (N,): in (-inf, inf), HIGH is easy; the lowest may be label errors.

    From "Identifying Mislabeled Data using the Area Under the Margin Ranking" (Pleiss et al., 2020), which has no
    weights.

    Args:
        margin: Margin at each checkpoint, floating point, shape (C, N).
        weights: Weight of each checkpoint, at least 0, floating point, shape (C,), such as `learning_weights`; None for
            equal weights. If all checkpoints at which an example was seen have weight 0, they count equally.

    Example:
        >>> area_under_margin(torch.tensor([[1.0, -2.0], [3.0, float("nan")]]), torch.tensor([0.75, 0.25]))
        tensor([ 1.5000, -2.0000])
    """
    margin = check.floating("area_under_margin", "margin", margin, "checkpoint")
    return _mean_over_checkpoints("area_under_margin", margin, weights)


def learning_weights(accuracy: Tensor) -> Tensor:
    """Return weights of checkpoints, (C,), for finding label errors: t (a (1 - a))^2, t = 1, 2, ..., a the accuracy.

    a (1 - a) is the variance of being right. Once a model is right on all examples, it has memorised label errors too,
    and its margins no longer reveal them. Until then later checkpoints are more informative, hence the factor t.
    Chosen on human label errors in CIFAR-10, see examples/results/label_issues_cifar10n.md.

    Args:
        accuracy: Fraction of the examples whose given label the model predicts at each checkpoint, in [0, 1], floating
            point, shape (C,), in the order of training.

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
    where the average is over a training with a cyclical learning rate.

    Args:
        loss: Loss at each checkpoint, floating point, shape (C, N).

    Example:
        >>> area_under_loss(torch.tensor([[1.0, 0.5], [3.0, float("nan")]]))
        tensor([2.0000, 0.5000])
    """
    return check.floating("area_under_loss", "loss", loss, "checkpoint").nanmean(dim=0)


def early_agreement(correct: Tensor, early: float = 0.5, seen: Tensor | None = None) -> Tensor:
    """Return the fraction of early checkpoints, (N,), at which the model agrees with the label: in [0, 1], 1 is easy.

    A network fits correct labels before it memorises label errors, as "Early-Learning Regularization Prevents
    Memorization of Noisy Labels" (Liu et al., 2020) shows, so that later agreement is less informative.

    Args:
        correct: Whether the prediction is the label, bool or integers 0 and 1, shape (C, N), in the order of training.
        early: Only this fraction of the checkpoints, the first ones, counts; in (0, 1]; rounded half up, at least one.
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

    From "An Empirical Study of Example Forgetting during Deep Neural Network Learning" (Toneva et al., 2019). There the
    count of an example that is never learnt is infinite; here it is C, which no other example can reach, so that it is
    the hardest, too.

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
    """Return the norm of the error, || softmax(logits) - onehot(target) ||_2, (N,): in [0, sqrt(2)], LOW is easy.

    From "Deep Learning on a Data Diet: Finding Important Examples Early in Training" (Paul et al., 2021), which
    averages it over 10 runs after a few epochs. NaN where a logit is NaN or +inf.

    Args:
        logits: Floating point, shape (N, K), K >= 2.
        target: Class indices in [0, K), integers, shape (N,).

    Example:
        >>> el2n(torch.tensor([[0.0, 0.0], [200.0, 0.0], [0.0, 200.0]]), torch.tensor([0, 0, 0]))
        tensor([0.7071, 0.0000, 1.4142])
    """
    logits, target = check.logits("el2n", logits, target)
    # softmax is weights / weights.sum(1); for few classes one division at the end takes a third of the time.
    weights = (logits - logits.detach().amax(1, keepdim=True)).exp_()
    try:
        others = weights.scatter(1, target.unsqueeze(1), 0.0)
    except RuntimeError:
        check.target_range("el2n", logits, target)
        raise
    # At the target the error is 1 - p, computed as the sum of the others, which stays exact where p rounds to 1.
    return torch.hypot(others.sum(1), torch.linalg.vector_norm(others, dim=1)) / weights.sum(1)


def confidence(loss: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean probability of the true class over checkpoints, (N,): in [0, 1], HIGH is easy.

    Mean of exp(-loss), one axis of the data maps of "Dataset Cartography: Mapping and Diagnosing Datasets with Training
    Dynamics" (Swayamdipta et al., 2020).

    Args:
        loss: Cross-entropy at each checkpoint, floating point, shape (C, N); other losses do not give probabilities.
        weights: Weight of each checkpoint, as in `area_under_margin`.

    Example:
        >>> confidence(-torch.tensor([[0.2, 0.9], [0.4, 0.9]]).log())
        tensor([0.3000, 0.9000])
    """
    probability = (-check.floating("confidence", "loss", loss, "checkpoint")).exp()
    return _mean_over_checkpoints("confidence", probability, weights)


def variability(loss: Tensor) -> Tensor:
    """Return the spread of the probability of the true class over checkpoints, (N,): in [0, 0.5], high is ambiguous.

    Population standard deviation of exp(-loss), the other axis of the data maps of "Dataset Cartography" (see
    `confidence`). It is low both for easy and for hard examples.

    Args:
        loss: Cross-entropy at each checkpoint, floating point, shape (C, N); other losses do not give probabilities.

    Example:
        >>> variability(-torch.tensor([[0.2, 0.9], [0.4, 0.9]]).log())
        tensor([0.1000, 0.0000])
    """
    probability = (-check.floating("variability", "loss", loss, "checkpoint")).exp()
    # Written out, since std() warns about an empty tensor.
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
    """Return the mean of (C, N) over the checkpoints that are not NaN, weighted if weights (C,) are given."""
    if weights is None:
        return rows.nanmean(dim=0)
    weights = check.floating(owner, "weights", weights)
    if weights.shape != rows.shape[:1] or not bool((weights.isfinite() & (weights >= 0)).all()):
        must = f"be finite numbers of at least 0, one per checkpoint, ({rows.shape[0]},)"
        got = f"{weights.flatten().tolist()[:10]} of shape {tuple(weights.shape)}"
        check.refuse(owner, "weights", must, got)
    column = weights.to(rows).unsqueeze(1)
    total = (~rows.isnan() * column).sum(0)
    weighted, counts = (rows * column).nansum(0) / total, total > 0
    return weighted if bool(counts.all()) else torch.where(counts, weighted, rows.nanmean(dim=0))
