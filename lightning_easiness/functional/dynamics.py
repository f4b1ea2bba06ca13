"""Scores that users expect from what was observed in training: margins, forgetting, EL2N and data maps."""

import torch
from torch import Tensor

from lightning_easiness.functional._checks import (
    check_correct,
    check_floating,
    check_logits,
    check_per_example,
    check_rows,
    check_same_length,
    check_target_range,
)
from lightning_easiness.functional.easiness import fraction_to_count


def margin(logits: Tensor, target: Tensor) -> Tensor:
    """Target logit less the largest other logit: in (-inf, inf), HIGH is easy, below 0 is misclassified.

    The quantity that "Identifying Mislabeled Data using the Area Under the Margin Ranking" (Pleiss et al., 2020)
    averages over training. Made for the training step: no value is read back from the device, so away from the CPU a
    target outside [0, K) is torch's own error.

    Args:
        logits: Floating point, shape (N, K), K >= 2; left as they are.
        target: Class indices in [0, K), integers, shape (N,).

    Returns:
        Shape (N,), float32 (float64 for float64 `logits`). 0 for a tie; NaN where the difference is not defined, as
        between two infinities of one sign, or where a logit is NaN.

    Raises:
        TypeError: If `logits` is not floating point or `target` is not integer.
        ValueError: If a shape is wrong, there is a single class, or a target on the CPU is outside [0, K).

    Example:
        >>> import torch
        >>> margin(torch.tensor([[3.0, 1.0, 0.5], [0.0, 2.0, 5.0]]), torch.tensor([0, 1]))
        tensor([ 2., -3.])
    """
    logits, target = check_logits("margin", logits, target)
    index = target.unsqueeze(1)
    # The fastest of ten formulations at (256, 10): half the time of topk, which also sorts what nobody asks for.
    try:
        largest_other = logits.scatter(1, index, -torch.inf).amax(1)
    except RuntimeError:
        check_target_range("margin", logits, target)
        raise
    return logits.gather(1, index).squeeze(1) - largest_other


def area_under_margin(margin: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean margin over checkpoints: in (-inf, inf), HIGH is easy, the lowest are suspected of a wrong label.

    From "Identifying Mislabeled Data using the Area Under the Margin Ranking" (Pleiss et al., 2020), which knows no
    weights.

    Args:
        margin: Margin at each checkpoint, floating point, shape (C, N). NaN where an example was not seen.
        weights: How much each checkpoint counts, at least 0, floating point, shape (C,), as `learning_weights` gives
            them; None for all alike.

    Returns:
        Shape (N,), float32 (float64 for a float64 `margin`): the mean over the checkpoints that are not NaN, and NaN
        for an example that was never seen. Where all of these have a weight of 0, they count alike.

    Raises:
        TypeError: If `margin` or `weights` is no floating point tensor.
        ValueError: If `margin` has another shape, or no checkpoint; if `weights` has another shape, or holds one that
            is negative or not finite.

    Example:
        >>> import torch
        >>> area_under_margin(torch.tensor([[1.0, -2.0], [3.0, float("nan")]]))
        tensor([ 2., -2.])
        >>> area_under_margin(torch.tensor([[1.0, -2.0], [3.0, float("nan")]]), torch.tensor([0.75, 0.25]))
        tensor([ 1.5000, -2.0000])
    """
    margin = check_floating("area_under_margin", "margin", margin)
    check_rows("area_under_margin", "margin", margin, row="checkpoint")
    return _mean_over_checkpoints("area_under_margin", margin, weights)


def learning_weights(accuracy: Tensor) -> Tensor:
    """Weights of checkpoints by how much they tell of labels: t (a (1 - a))^2, t = 1, 2, ..., a the accuracy.

    a (1 - a) is the variance of being right: once a model is right on all examples, wrong labels have been learnt by
    heart, too, and its margins tell nothing of them. As long as it is not, later checkpoints know more than early ones,
    which is what t is for. Chosen on human errors in CIFAR-10, see examples/results/label_issues_cifar10n.md.

    Args:
        accuracy: Share of the examples that the model gets right under their given labels at each checkpoint, in
            [0, 1], floating point, shape (C,), in the order of the training.

    Returns:
        Shape (C,), at least 0, for `area_under_margin` and `confidence`; NaN stays.

    Raises:
        TypeError: If `accuracy` is no floating point tensor.
        ValueError: If `accuracy` has another shape, or a value is outside [0, 1].

    Example:
        >>> import torch
        >>> learning_weights(torch.tensor([0.0, 0.5, 0.5, 1.0]))
        tensor([0.0000, 0.1250, 0.1875, 0.0000])
    """
    accuracy = check_floating("learning_weights", "accuracy", accuracy)
    check_per_example("learning_weights", "accuracy", accuracy)
    if bool(((accuracy < 0) | (accuracy > 1)).any()):
        raise ValueError(
            "The `accuracy` of learning_weights must be in [0, 1], shares of examples; got "
            f"{float(accuracy.min()):g} to {float(accuracy.max()):g}."
        )
    moment = torch.arange(1, len(accuracy) + 1, device=accuracy.device)
    return moment * (accuracy * (1 - accuracy)).square()


def area_under_loss(loss: Tensor) -> Tensor:
    """Mean loss over checkpoints: in [0, inf) for cross-entropy, LOW is easy, the highest may be labelled wrong.

    The criterion of "O2U-Net: A Simple Noisy Label Detection Approach for Deep Neural Networks" (Huang et al., 2019),
    which there is averaged over a training with a cyclical learning rate.

    Args:
        loss: Loss at each checkpoint, floating point, shape (C, N). NaN where an example was not seen.

    Returns:
        Shape (N,), float32 (float64 for a float64 `loss`): the mean over the checkpoints that are not NaN, and NaN for
        an example that was never seen.

    Raises:
        TypeError: If `loss` is no floating point tensor.
        ValueError: If `loss` has another shape, or no checkpoint.

    Example:
        >>> import torch
        >>> area_under_loss(torch.tensor([[1.0, 0.5], [3.0, float("nan")]]))
        tensor([2.0000, 0.5000])
    """
    loss = check_floating("area_under_loss", "loss", loss)
    check_rows("area_under_loss", "loss", loss, row="checkpoint")
    return loss.nanmean(dim=0)


def early_agreement(correct: Tensor, early: float = 0.5, seen: Tensor | None = None) -> Tensor:
    """Share of the early checkpoints at which the model agrees with the given label: in [0, 1], 1 is easiest.

    A network learns what most labels say before it learns wrong ones by heart, as "Early-Learning Regularization
    Prevents Memorization of Noisy Labels" (Liu et al., 2020) shows, so that later agreement says less of a label.

    Args:
        correct: Whether each example is classified as its label says, bool or integers 0 and 1, shape (C, N), in the
            order of training.
        early: Share of the checkpoints that count, the first ones, in (0, 1]; rounded half up, at least one.
        seen: Whether each example was seen at each checkpoint, bool, shape (C, N); others do not count. None: all were.

    Returns:
        Shape (N,), float32; NaN where an example was not seen early.

    Raises:
        TypeError: If `correct` is neither bool nor integer.
        ValueError: If a shape is wrong, there is no checkpoint, `correct` has values other than 0 and 1, or `early` is
            out of range.

    Example:
        >>> import torch
        >>> early_agreement(torch.tensor([[True, False], [True, False], [True, True], [True, True]]))
        tensor([1., 0.])
    """
    owner = "early_agreement"
    correct = check_correct(owner, correct)
    check_rows(owner, "correct", correct, row="checkpoint")
    if not 0 < early <= 1:
        raise ValueError(f"The `early` of {owner} must be in (0, 1]; got {early}: the first half is 0.5.")
    if seen is None:
        seen = torch.ones_like(correct)
    check_same_length(owner, "seen", seen, "correct", correct)
    number = fraction_to_count(early, len(correct))
    first, counted = correct[:number] & seen[:number], seen[:number]
    return first.sum(0) / counted.sum(0)


def forgetting_events(correct: Tensor) -> Tensor:
    """Times that an example goes from correct to wrong: in [0, C], LOW is easy.

    From "An Empirical Study of Example Forgetting during Deep Neural Network Learning" (Toneva et al., 2019). There an
    example that is never learnt is forgotten infinitely often; here it counts C, which no other example can reach and
    so is the hardest in the same way.

    Args:
        correct: Whether each example is classified correctly at each checkpoint, bool or integers 0 and 1, shape
            (C, N), in the order of training.

    Returns:
        Shape (N,), int64.

    Raises:
        TypeError: If `correct` is neither bool nor integer.
        ValueError: If `correct` has another shape, no checkpoint, or values other than 0 and 1.

    Example:
        >>> import torch
        >>> forgetting_events(torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 0]]))
        tensor([2, 0, 4])
    """
    correct = check_correct("forgetting_events", correct)
    check_rows("forgetting_events", "correct", correct, row="checkpoint")
    events = (correct[:-1] & ~correct[1:]).sum(dim=0)
    return torch.where(correct.any(dim=0), events, len(correct))


def el2n(logits: Tensor, target: Tensor) -> Tensor:
    """Length of the error vector, || softmax(logits) - onehot(target) ||_2: in [0, sqrt(2)], LOW is easy.

    From "Deep Learning on a Data Diet: Finding Important Examples Early in Training" (Paul et al., 2021), where it is
    averaged over 10 runs, a few epochs in. No value is read back from the device, so away from the CPU a target outside
    [0, K) is torch's own error.

    Args:
        logits: Floating point, shape (N, K), K >= 2.
        target: Class indices in [0, K), integers, shape (N,).

    Returns:
        Shape (N,), float32 (float64 for float64 `logits`). NaN where a logit is NaN or +inf.

    Raises:
        TypeError: If `logits` is not floating point or `target` is not integer.
        ValueError: If a shape is wrong, there is a single class, or a target on the CPU is outside [0, K).

    Example:
        >>> import torch
        >>> el2n(torch.tensor([[0.0, 0.0], [200.0, 0.0], [0.0, 200.0]]), torch.tensor([0, 0, 0]))
        tensor([0.7071, 0.0000, 1.4142])
    """
    logits, target = check_logits("el2n", logits, target)
    # softmax is weights / weights.sum(1); one division at the end is a third of its time for few classes.
    weights = (logits - logits.detach().amax(1, keepdim=True)).exp_()
    try:
        others = weights.scatter(1, target.unsqueeze(1), 0.0)
    except RuntimeError:
        check_target_range("el2n", logits, target)
        raise
    # At the target the error is 1 - p. As the sum of the others it keeps its digits where p rounds to 1.
    return torch.hypot(others.sum(1), torch.linalg.vector_norm(others, dim=1)) / weights.sum(1)


def confidence(loss: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean probability of the true class over checkpoints: in [0, 1], HIGH is easy.

    Mean of exp(-loss), one axis of the data maps of "Dataset Cartography: Mapping and Diagnosing Datasets with Training
    Dynamics" (Swayamdipta et al., 2020).

    Args:
        loss: Cross-entropy at each checkpoint, floating point, shape (C, N); another loss gives no probability.
        weights: How much each checkpoint counts, as in `area_under_margin`.

    Returns:
        Shape (N,), float32 (float64 for a float64 `loss`). Of the checkpoints whose loss is not NaN, NaN without one.

    Raises:
        TypeError: If `loss` or `weights` is no floating point tensor.
        ValueError: If `loss` has another shape, or no checkpoint; if `weights` are none, as in `area_under_margin`.

    Example:
        >>> import torch
        >>> confidence(-torch.tensor([[0.2, 0.9], [0.4, 0.9]]).log())
        tensor([0.3000, 0.9000])
    """
    return _mean_over_checkpoints("confidence", _true_class_probability("confidence", loss), weights)


def variability(loss: Tensor) -> Tensor:
    """Spread of the probability of the true class over checkpoints: in [0, 0.5], high is ambiguous.

    Population standard deviation of exp(-loss), the other axis of the data maps of "Dataset Cartography: Mapping and
    Diagnosing Datasets with Training Dynamics" (Swayamdipta et al., 2020). It is low for easy and for hard examples.

    Args:
        loss: Cross-entropy at each checkpoint, floating point, shape (C, N); another loss gives no probability.

    Returns:
        Shape (N,), float32 (float64 for a float64 `loss`). Of the checkpoints whose loss is not NaN: 0 for one, NaN
        for none.

    Raises:
        TypeError: If `loss` is no floating point tensor.
        ValueError: If `loss` has another shape, or no checkpoint.

    Example:
        >>> import torch
        >>> variability(-torch.tensor([[0.2, 0.9], [0.4, 0.9]]).log())
        tensor([0.1000, 0.0000])
    """
    probability = _true_class_probability("variability", loss)
    # Written out, as std() warns about an empty tensor.
    return (probability - probability.nanmean(dim=0)).square().nanmean(dim=0).sqrt()


def _true_class_probability(owner: str, loss: Tensor) -> Tensor:
    loss = check_floating(owner, "loss", loss)
    check_rows(owner, "loss", loss, row="checkpoint")
    return (-loss).exp()


def correctness(correct: Tensor) -> Tensor:
    """Share of checkpoints at which an example is classified correctly: in [0, 1], 1 is easiest.

    The colour of the data maps of "Dataset Cartography: Mapping and Diagnosing Datasets with Training Dynamics"
    (Swayamdipta et al., 2020).

    Args:
        correct: Whether each example is classified correctly, bool or integers 0 and 1, shape (C, N).

    Returns:
        Shape (N,), float32.

    Raises:
        TypeError: If `correct` is neither bool nor integer.
        ValueError: If `correct` has another shape, no checkpoint, or values other than 0 and 1.

    Example:
        >>> import torch
        >>> correctness(torch.tensor([[True, False], [True, True]]))
        tensor([1.0000, 0.5000])
    """
    correct = check_correct("correctness", correct)
    check_rows("correctness", "correct", correct, row="checkpoint")
    return correct.float().mean(dim=0)


def _mean_over_checkpoints(owner: str, rows: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean of (C, N) over the checkpoints that are not NaN, weighted where there are weights (C,)."""
    plain = rows.nanmean(dim=0)
    if weights is None:
        return plain
    weights = check_floating(owner, "weights", weights)
    if weights.shape != rows.shape[:1] or not bool((weights.isfinite() & (weights >= 0)).all()):
        raise ValueError(
            f"The `weights` of {owner} must be finite numbers of at least 0, one a checkpoint, ({rows.shape[0]},); got "
            f"{weights.flatten().tolist()[:10]} of shape {tuple(weights.shape)}."
        )
    column = weights.to(rows).unsqueeze(1)
    total = (~rows.isnan() * column).sum(0)
    return torch.where(total > 0, (rows * column).nansum(0) / total, plain)
