"""The metrics over batches and processes against slow references over all examples at once."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from lightning_easiness import functional
from lightning_easiness.metrics import ExpectedSampleEasinessError, MatchingRate, MediumSampleRate
from tests.distributed_metrics import NUM_EXAMPLES, SIGMA2, examples, inputs_of, make_metrics, measure, update
from tests.functional import loss_references
from tests.functional import references as reference
from tests.functional.strategies import Reads
from tests.processes import run_script
from tests.refusing import refused_call as refused

TIME_LIMIT = 120  # seconds; a machine under load takes a minute

ERRORS = pytest.mark.parametrize("kind", [MediumSampleRate, ExpectedSampleEasinessError])


def wanted_easiness(sigma2: float = SIGMA2) -> list[float]:
    logits, target, _, _ = examples()
    return reference.sample_easiness(logits.tolist(), target.tolist(), sigma2)


def wanted_rate(sigma2: float = SIGMA2, tol: float = 5e-4) -> float:
    logits, target, _, _ = examples()
    return reference.medium_sample_rate(reference.comparisons(logits.tolist(), target.tolist(), sigma2), tol)


def wanted_error(easiness: list[float], num_bins: int = 5) -> float:
    logits, target, _, _ = examples()
    correct = (logits.argmax(1) == target).tolist()
    return reference.expected_sample_easiness_error(easiness, correct, num_bins, False)


def ends(values: Tensor, fraction: float, easiest: bool, higher_is_easier: bool) -> set[int]:
    order = sorted(range(len(values)), key=lambda index: float(values[index]), reverse=higher_is_easier == easiest)
    return set(order[: reference.fraction_to_count(fraction, len(values))])


def wanted() -> dict[str, float]:
    """What the metrics of `make_metrics` come to over all examples."""
    easiness, (_, _, a, b) = wanted_easiness(), examples()
    return {
        "medium_sample_rate": wanted_rate(),
        "sample_easiness_error": wanted_error(easiness),
        "matching_rate": reference.matching_rate(*(ends(values, 0.2, True, False) for values in (a, b))),
        "matching_rate of indices": reference.matching_rate(*(ends(values, 0.2, False, False) for values in (a, b))),
    }


def batches(size: int) -> tuple[Tensor, ...]:
    return torch.arange(NUM_EXAMPLES).split(size)


# ------------------------------------------------------------------------------------------------- batches


def test_the_examples_say_something() -> None:
    numbers = wanted()
    assert all(0.01 < value < 0.99 for value in numbers.values())
    assert numbers["matching_rate"] != numbers["matching_rate of indices"]
    logits, target, _, _ = examples()
    compared = reference.comparisons(logits.tolist(), target.tolist(), SIGMA2)
    levels = reference.easiness_level(compared, 5e-4)
    assert min(levels.count(level) for level in range(3)) >= 3
    near = [min(abs(value - edge) for edge in (1 - 5e-4, 0.2, 0.4, 0.6, 0.8)) for value in wanted_easiness()]
    near += [abs(min(row) - 5e-4) for row in compared]
    assert min(near) > 1e-5, "none that rounding may move"


@pytest.mark.parametrize("size", [1, 7, 61])
def test_batches_make_no_difference(size: int) -> None:
    metrics = make_metrics()
    for batch in batches(size):
        update(metrics, batch)
    found = {name: float(metric.compute()) for name, metric in metrics.items()}
    assert found == pytest.approx(wanted(), rel=1e-4)


def test_an_error_over_batches_is_not_the_mean_of_their_errors() -> None:
    metric, logits, target = ExpectedSampleEasinessError(), torch.zeros(2, 2), torch.tensor([0, 1])
    assert metric(logits[:1], target[:1]).item() == pytest.approx(0.5), "right, where easiness says one half"
    assert metric(logits[1:], target[1:]).item() == pytest.approx(0.5), "wrong, where easiness says one half"
    assert metric.compute().item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("sigma2", "tol", "num_bins"),
    [(1e-4, 5e-4, 5), (1e-2, 5e-4, 5), (1e-6, 5e-4, 5), (SIGMA2, 0.01, 1), (SIGMA2, 0.3, 3), (SIGMA2, 0.3, 20)],
)
def test_the_settings_count_and_are_by_default_those_of_the_paper(sigma2: float, tol: float, num_bins: int) -> None:
    logits, target, _, _ = examples()
    easiness = wanted_easiness(sigma2)
    metrics = [(MediumSampleRate(sigma2, tol), ExpectedSampleEasinessError(num_bins, sigma2))]
    if sigma2 == 1e-4:
        metrics.append((MediumSampleRate(), ExpectedSampleEasinessError()))
    for rate, error in metrics:
        assert rate(logits, target).item() == pytest.approx(wanted_rate(sigma2, tol), rel=1e-6)
        assert error(logits, target).item() == pytest.approx(wanted_error(easiness, num_bins), rel=1e-3, abs=1e-5)


@ERRORS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types(kind: Any, dtype: torch.dtype) -> None:
    logits, target, _, _ = examples()
    metric = kind(sigma2=SIGMA2)
    for rows, labels in zip(logits.to(dtype).split(9), target.split(9), strict=True):
        metric.update(rows, labels.int())
    easiness = functional.sample_easiness(logits.to(dtype), target, SIGMA2)
    if kind is MediumSampleRate:
        wins = functional.sample_easiness(logits.to(dtype), target, SIGMA2, per_class=True)
        expected = functional.medium_sample_rate(wins)
    else:
        correct = logits.to(dtype).argmax(1) == target
        expected = functional.expected_sample_easiness_error(easiness, correct)
    assert metric.compute().item() == pytest.approx(expected.item(), rel=1e-5)


def test_many_batches_lose_nothing() -> None:
    """Sums of a hundred thousand easinesses of one half in float32 would stray."""
    metric = ExpectedSampleEasinessError(num_bins=1)
    logits = torch.zeros(50_000, 2)
    rate = MediumSampleRate()
    for _ in range(4):
        for one in (metric, rate):
            one.update(logits, torch.zeros(50_000, dtype=torch.int64))
    assert (metric.compute().item(), rate.compute().item()) == pytest.approx((0.5, 1), rel=1e-6)


@ERRORS
def test_unknown_outputs_and_empty_batches_change_nothing(kind: Any) -> None:
    logits, target, _, _ = examples()
    metric, size = kind(sigma2=SIGMA2), sum(state.numel() for state in kind().metric_state.values())
    metric.update(logits[:0], target[:0])
    assert metric.compute().isnan(), "of no example"
    metric.update(logits, target)
    before = metric.compute()
    metric.update(torch.full((3, logits.shape[1]), math.nan), torch.zeros(3, dtype=torch.int64))
    metric.update(logits[:0], target[:0])
    torch.testing.assert_close(metric.compute(), before)
    assert sum(state.numel() for state in metric.metric_state.values()) == size < 30, "the state does not grow"


# ----------------------------------------------------------------------------------------- matching rate


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("directions", [True, False, (True, False), (False, True)])
@pytest.mark.parametrize("which", ["easy", "hard"])
def test_matching_rate_of_either_end_and_direction(fraction: float, directions: Any, which: Any) -> None:
    _, _, a, b = examples()
    options = {} if fraction == 0.1 and which == "easy" else {"fraction": fraction, "which": which}  # the defaults
    of_a, of_b = directions if isinstance(directions, tuple) else (directions, directions)
    sets = ends(a, fraction, which == "easy", of_a), ends(b, fraction, which == "easy", of_b)
    for order in (batches(7), reversed(batches(7))):
        metric = MatchingRate(higher_is_easier=directions, **options)
        for batch in order:
            metric.update(a[batch], b[batch])
        assert metric.compute().item() == pytest.approx(reference.matching_rate(*sets))


def test_an_example_that_comes_again_counts_once() -> None:
    _, _, a, b = examples()
    metric = MatchingRate(0.2, higher_is_easier=False)
    index = torch.randperm(NUM_EXAMPLES, generator=torch.Generator().manual_seed(0))
    for batch in index.split(10):
        metric.update(a[batch], b[batch], batch + 1000)
    easy = a.argsort()[:6].repeat(10)
    metric.update(a[easy], b[easy], easy + 1000)
    sets = [ends(values, 0.2, True, False) for values in (a, b)]
    assert metric.compute().item() == pytest.approx(reference.matching_rate(*sets))


@pytest.mark.parametrize("which", ["easy", "hard"])
def test_unknown_values_are_in_no_set(which: Any) -> None:
    a = torch.tensor([math.nan, 0.1, 0.2, 0.3, 0.4, math.nan])
    b = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 9.0])
    metric = MatchingRate(1 / 3, higher_is_easier=False, which=which)
    metric.update(a, b)
    pick = functional.easiest if which == "easy" else functional.hardest
    assert metric.compute().item() == pytest.approx(
        functional.matching_rate(*(pick(values, 1 / 3, higher_is_easier=False) for values in (a, b))).item()
    )


# ----------------------------------------------------------------------------------- torchmetrics' contract


def test_which_way_is_better() -> None:
    assert MediumSampleRate.higher_is_better is False, "low is a decided model"
    assert ExpectedSampleEasinessError.higher_is_better is False
    assert MatchingRate.higher_is_better is True
    assert not any(metric.is_differentiable for metric in make_metrics().values())


@pytest.mark.parametrize("name", list(make_metrics()))
class TestContract:
    def test_a_batchs_value_and_the_totals_after_a_reset(self, name: str) -> None:
        """`forward` gives the batch's own value and adds it to the total."""
        metric, alone = make_metrics()[name], make_metrics()[name]
        metric.update(*inputs_of(name, torch.arange(10)))
        metric.compute()
        metric.reset()
        for batch in batches(20):
            alone.reset()
            alone.update(*inputs_of(name, batch))
            torch.testing.assert_close(metric(*inputs_of(name, batch)), alone.compute())
        assert metric.compute().item() == pytest.approx(wanted()[name], rel=1e-4)
        assert metric.compute().shape == ()

    @pytest.mark.parametrize("way", ["clone", "pickle", "merge"])
    def test_a_copy_goes_on_and_states_are_merged(self, name: str, way: str) -> None:
        first, second = torch.arange(30), torch.arange(30, NUM_EXAMPLES)
        metric, other = make_metrics()[name], make_metrics()[name]
        metric.update(*inputs_of(name, first))
        other.update(*inputs_of(name, second))
        if way == "merge":
            if not hasattr(metric, "merge_state"):
                pytest.skip("an older torchmetrics")
            metric.merge_state(other)
        else:
            metric = metric.clone() if way == "clone" else pickle.loads(pickle.dumps(metric))
            metric.update(*inputs_of(name, second))
        assert metric.compute().item() == pytest.approx(wanted()[name], rel=1e-4)

    def test_neither_persistent_state_nor_gradients_are_kept_and_an_update_reads_nothing_back(self, name: str) -> None:
        metric = make_metrics()[name]
        preds, *others = inputs_of(name, torch.arange(NUM_EXAMPLES))
        with Reads():
            metric.update(preds.requires_grad_(), *others)
        assert metric.state_dict() == {}
        assert not metric.compute().requires_grad
        for state in metric.metric_state.values():
            assert not any(part.requires_grad for part in (state if isinstance(state, list) else [state]))

    def test_the_value_is_drawn(self, name: str) -> None:
        pytest.importorskip("matplotlib").use("Agg")
        import matplotlib.pyplot as plt

        metric = make_metrics()[name]
        metric.update(*inputs_of(name, torch.arange(NUM_EXAMPLES)))
        figure, axes = metric.plot()
        assert len(axes.lines) + len(axes.collections) > 0
        plt.close(figure)


def test_a_collection() -> None:
    logits, target, _, _ = examples()
    collection = MetricCollection([MediumSampleRate(SIGMA2), ExpectedSampleEasinessError(sigma2=SIGMA2)], prefix="val/")
    for batch in batches(10):
        collection.update(logits[batch], target[batch])
    found = collection.compute()
    rate, error = float(found["val/MediumSampleRate"]), float(found["val/ExpectedSampleEasinessError"])
    assert (rate, error) == pytest.approx((wanted()["medium_sample_rate"], wanted()["sample_easiness_error"]), rel=1e-4)


# ------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (MediumSampleRate, "sigma2", 0.0),
        (MediumSampleRate, "sigma2", math.nan),
        (MediumSampleRate, "tol", -0.1),
        (MediumSampleRate, "tol", 0.5),
        (ExpectedSampleEasinessError, "num_bins", 0),
        (ExpectedSampleEasinessError, "sigma2", -1e-4),
        (MatchingRate, "fraction", 0.0),
        (MatchingRate, "fraction", 1.5),
        (MatchingRate, "which", "best"),
    ],
)
def test_bad_options_are_refused_where_they_are_given(kind: Any, name: str, value: Any) -> None:
    options = {"higher_is_easier": True} if kind is MatchingRate else {}
    assert kind.__name__ in refused(ValueError, lambda: kind(**{**options, name: value}), name)


def test_a_direction_is_never_guessed() -> None:
    with pytest.raises(TypeError, match="higher_is_easier"):
        MatchingRate(0.1)  # type: ignore[call-arg]


ROWS, LABELS, VALUES = torch.rand(4, 3), torch.tensor([0, 1, 2, 0]), torch.rand(4)


@ERRORS
def test_bad_batches(kind: Any) -> None:
    metric = kind()
    for error, name, logits, target in (
        (ValueError, "logits", ROWS[:, :1], LABELS),
        (ValueError, "target", ROWS, LABELS[:2]),
        (TypeError, "logits", ROWS.long(), LABELS),
        (TypeError, "target", ROWS, LABELS.float()),
    ):
        refused(error, lambda: metric.update(logits, target), name)  # noqa: B023
    for outside in (3, -1, -100):
        message = refused(ValueError, lambda: metric.update(ROWS, torch.tensor([0, outside, 1, 1])), "target")  # noqa: B023
        assert f"got {outside}" in message
    metric.update(ROWS, LABELS)
    assert metric.compute().isfinite()
    assert torch.equal(metric.compute(), kind()(ROWS, LABELS)), "a refused batch leaves nothing behind"


@pytest.mark.parametrize(
    ("error", "batch", "name"),
    [
        (ValueError, (VALUES, VALUES[:2]), "target"),
        (ValueError, (VALUES[None], VALUES[None]), "preds"),
        (ValueError, (VALUES, VALUES, torch.arange(3)), "index"),
        (TypeError, (VALUES, VALUES, torch.rand(4)), "index"),
        (TypeError, (VALUES.tolist(), VALUES), "preds"),
    ],
)
def test_bad_batches_of_a_matching_rate(error: Any, batch: Any, name: str) -> None:
    refused(error, lambda: MatchingRate(higher_is_easier=True).update(*batch), name)


# ---------------------------------------------------------------------------------------- several processes


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes kept."""
    folder = tmp_path_factory.mktemp("processes")
    ended = run_script("distributed_metrics", "ddp_fork", 2, folder, time_limit=TIME_LIMIT)
    assert ended.returncode == 0, ended.stderr[-5000:]
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.multiprocess
@pytest.mark.slow
class TestProcesses:
    def test_two_processes_give_the_numbers_of_one(self, processes: list[dict[str, Any]]) -> None:
        alone = measure(0, 1)
        assert {name: alone[name] for name in wanted()} == pytest.approx(wanted(), rel=1e-4)
        for kept in processes:
            assert kept["metrics"] == pytest.approx(alone, rel=1e-6)

    def test_a_process_without_examples(self, processes: list[dict[str, Any]]) -> None:
        for kept in processes:
            assert kept["first"] == pytest.approx({name: wanted()[name] for name in kept["first"]}, rel=1e-4)

    def test_a_module_logs_the_numbers_of_all_processes(self, processes: list[dict[str, Any]]) -> None:
        assert processes[0]["logged"] == processes[1]["logged"]
        for stage, prefix, epoch in (("train", "", 1), ("val", "val_", 1)):
            entries = [entry for kept in processes for entry in kept["seen"] if (entry[0], entry[1]) == (stage, epoch)]
            assert len(entries) == (6 if stage == "train" else 4)
            logits, target = (torch.cat([entry[part] for entry in entries]).tolist() for part in (2, 3))
            logged = processes[0]["logged"][epoch]
            for name, number in loss_references.easiness_numbers(logits, target, SIGMA2).items():
                assert logged[f"easiness/{prefix}{name}"] == pytest.approx(number, rel=1e-3, abs=1e-5), (stage, name)

    def test_the_schedule_and_the_weights_are_the_same_in_all(self, processes: list[dict[str, Any]]) -> None:
        assert [logged["easiness/sel_weight"] for logged in processes[0]["logged"]] == [0.0, 0.5]
        for kept in processes:
            assert {float(entry[4]) == 0 for entry in kept["seen"] if entry[:2] == ("train", 0)} == {True}
            assert {float(entry[4]) > 0 for entry in kept["seen"] if entry[:2] == ("train", 1)} == {True}
        first, second = (kept["weights"] for kept in processes)
        assert all(torch.equal(first[name], second[name]) for name in first)


# --------------------------------------------------------------------------------------------------- counted easiness


@ERRORS
def test_counted_easiness_is_near_the_exact_and_the_same_in_any_batches(kind: Any) -> None:
    logits, target, _, _ = examples()
    index = torch.randperm(NUM_EXAMPLES, generator=torch.Generator().manual_seed(0))
    found = []
    for size in (1, 7, 61, NUM_EXAMPLES):
        metric = kind(sigma2=SIGMA2, num_draws=1000)
        for batch in batches(size):
            metric.update(logits[batch], target[batch], index[batch])
        found.append(float(metric.compute()))
    assert found == pytest.approx([found[0]] * 4, abs=1e-7)
    exact = kind(sigma2=SIGMA2)
    exact.update(logits, target, index)
    assert found[0] == pytest.approx(float(exact.compute()), abs=0.05)
    assert found[0] != float(exact.compute())


@ERRORS
def test_by_default_the_examples_of_a_batch_are_numbered(kind: Any) -> None:
    logits, target, _, _ = examples()
    two = [kind(sigma2=SIGMA2, num_draws=50) for _ in range(2)]
    for metric, index in zip(two, ((), (torch.arange(NUM_EXAMPLES),)), strict=True):
        metric.update(logits, target, *index)
    assert two[0].compute() == two[1].compute()


@ERRORS
@pytest.mark.parametrize("num_draws", [0, -1, 0.5, True, "1000"])
def test_a_number_of_draws_that_is_none_is_refused(kind: Any, num_draws: Any) -> None:
    message = r"The `num_draws` of \w+ must be a whole number of at least 1, or None; got .*: the paper draws 1,000\."
    with pytest.raises(ValueError, match=message):
        kind(num_draws=num_draws)


def test_medium_of_many_draws_warns_of_the_default_tolerance_alone() -> None:
    message = r"^With num_draws=10000 the default `tol` of 0.0005 calls hard .* with `tol=1/\(2\*num_draws\)`, 5e-05\.$"
    with pytest.warns(UserWarning, match=message):
        MediumSampleRate(num_draws=10_000)
    MediumSampleRate(num_draws=10_000, tol=1 / 20_000)  # a warning is an error
    MediumSampleRate(num_draws=1000)
