"""`confident_joint` and `estimate_wrong_share` against loops, by hand, and against cleanlab where it is installed."""

import math

import pytest
import torch

from lightning_easiness import functional
from lightning_easiness.functional import confident_joint, corrupt_labels, estimate_wrong_share


def made(number: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities of an imperfect model, and labels of which a third is wrong."""
    draws = torch.Generator().manual_seed(seed)
    truth = torch.randint(classes, (number,), generator=draws)
    logits = torch.randn(number, classes, generator=draws) + 3 * torch.nn.functional.one_hot(truth, classes)
    return logits.softmax(1), corrupt_labels(truth, 1 / 3, "uniform", classes, seed)


def joint_by_loops(probabilities: torch.Tensor, given: torch.Tensor) -> list[list[int]]:
    rows, labels = probabilities.double().tolist(), given.tolist()
    classes = len(rows[0])
    known = [n for n in range(len(rows)) if labels[n] >= 0 and not any(map(math.isnan, rows[n]))]
    thresholds = []
    for one in range(classes):
        own = [rows[n][one] for n in known if labels[n] == one]
        thresholds.append(math.fsum(own) / len(own) if own else math.inf)
    counts = [[0] * classes for _ in range(classes)]
    for n in known:
        above = [one for one in range(classes) if rows[n][one] >= thresholds[one]]
        if above:
            counts[labels[n]][max(above, key=lambda one: rows[n][one])] += 1
    return counts


@pytest.mark.parametrize(("number", "classes"), [(40, 2), (300, 5), (12, 10)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_against_loops(number: int, classes: int, dtype: torch.dtype) -> None:
    probabilities, given = made(number, classes)
    probabilities = probabilities.to(dtype)
    given[::7] = -1
    probabilities[3] = math.nan
    assert confident_joint(probabilities, given).tolist() == joint_by_loops(probabilities, given)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, given = made(100, 5)
    whole = confident_joint(probabilities, given)
    monkeypatch.setattr(functional.label_quality, "_BLOCK", 35)
    assert torch.equal(confident_joint(probabilities, given), whole)


def test_a_class_that_was_given_to_none_is_confident_in_none() -> None:
    probabilities = torch.tensor([[0.1, 0.1, 0.8], [0.6, 0.2, 0.2], [0.3, 0.5, 0.2]])
    joint = confident_joint(probabilities, torch.tensor([0, 0, 1]))
    assert joint[:, 2].sum() == joint[2].sum() == 0


def test_the_share_of_a_class_is_what_is_off_the_diagonal_of_its_row() -> None:
    probabilities, given = made(500, 4)
    joint = confident_joint(probabilities, given).tolist()
    by_hand = [1 - row[one] / sum(row) for one, row in enumerate(joint)]
    assert estimate_wrong_share(probabilities, given).tolist() == pytest.approx(by_hand)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.4])
def test_a_model_that_knows_the_truth_tells_the_share(ratio: float) -> None:
    truth = torch.arange(2000) % 5
    given = corrupt_labels(truth, ratio, "uniform", 5)
    sure = torch.nn.functional.one_hot(truth, 5).float() * 0.9 + 0.02
    shares = estimate_wrong_share(sure, given)
    assert float(shares[given].mean()) == pytest.approx(ratio, abs=1e-9)


def test_nothing_known_is_nothing_wrong() -> None:
    shares = estimate_wrong_share(torch.full((3, 2), 0.5), torch.full((3,), -1))
    assert shares.tolist() == [0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_against_cleanlab(seed: int) -> None:
    count = pytest.importorskip("cleanlab.count")
    probabilities, given = made(800, 6, seed)
    exact = (probabilities.double() / probabilities.double().sum(1, keepdim=True)).float()
    theirs = count.compute_confident_joint(given.numpy(), exact.numpy(), calibrate=False)
    assert confident_joint(exact, given).tolist() == theirs.tolist()


# ------------------------------------------------------------------ another confidence


def test_another_confidence_leaves_the_order_of_the_other_classes() -> None:
    probabilities, given = made(50, 5)
    given[3] = -1
    new = torch.rand(50, generator=torch.Generator().manual_seed(1))
    new[7] = math.nan
    replaced = functional.replace_confidence(probabilities, given, new)
    for row, label in enumerate(given.tolist()):
        others = [one for one in range(5) if one != label]
        if label < 0:
            assert torch.equal(replaced[row], probabilities[row])
        elif row == 7:
            assert replaced[row].isnan().all()
        else:
            left = float(1 - new[row]) / sum(float(probabilities[row, one]) for one in others)
            wanted = [float(probabilities[row, one]) * left for one in others]
            assert replaced[row, others].tolist() == pytest.approx(wanted, abs=1e-6)
            assert float(replaced[row, label]) == pytest.approx(float(new[row]))


def test_what_was_certain_is_shared_by_the_others() -> None:
    certain = torch.tensor([[1.0, 0.0, 0.0]])
    replaced = functional.replace_confidence(certain, torch.tensor([0]), torch.tensor([0.4]))
    torch.testing.assert_close(replaced, torch.tensor([[0.4, 0.3, 0.3]]))
