"""What is read off one batch, and the sums of an epoch."""

from __future__ import annotations

import collections
import functools
import math
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_easiness.data.batch import unpack_batch
from lightning_easiness.observe.accumulate import EpochSums, epoch_means, to_classes
from lightning_easiness.observe.batch_reader import BatchReader, find_logits
from lightning_easiness.observe.recognise import announce, recognise
from lightning_easiness.observe.tasks import ONLINE_FIELDS, PROBE_FIELDS, UNSEEN_TARGET
from tests.made_runs import whole
from tests.plain_forward import expected

# ---------------------------------------------------------------------------------------------- batches

Pair = collections.namedtuple("Pair", ["image", "kind"])


@pytest.mark.parametrize(
    ("batch", "inputs", "target"),
    [
        ((1, 2), 1, 2),
        ([1, 2, 3, 4], 1, 2),
        (Pair(1, 2), 1, 2),
        ({"image": 1, "label": 2}, 1, 2),
        ({"meta": 0, "pixel_values": 1, "labels": 2}, 1, 2),
        ({"x": 1, "y": 2}, 1, 2),
        ({"y": 2, "target": 3, "data": 1}, 1, 3),
        (collections.OrderedDict(features=1, classes=2), 1, 2),
        # keywords for the model where nothing is known as the inputs
        ({"input_ids": 1, "attention_mask": 0, "labels": 2}, {"input_ids": 1, "attention_mask": 0}, 2),
    ],
)
def test_unpack_batch(batch: Any, inputs: Any, target: Any) -> None:
    assert unpack_batch(batch) == (inputs, target)


@pytest.mark.parametrize(("batch", "found"), [([], "a list of 0 items"), (None, "a NoneType"), ("xy", "a str")])
def test_a_batch_that_cannot_be_unpacked(batch: Any, found: str) -> None:
    """tests/contracts/test_refused.py has the whole message."""
    with pytest.raises(TypeError, match=f"cannot tell inputs from targets in {found}; pass batch_fn"):
        unpack_batch(batch)


Output = collections.namedtuple("Output", ["loss", "logits"])
LOGITS, TWO = torch.arange(6.0).reshape(2, 3), torch.tensor([0, 1])


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        (LOGITS, torch.zeros(())),
        (1, LOGITS),
        [LOGITS],
        {"loss": torch.zeros(()), "logits": LOGITS},
        {"out": LOGITS, "aux": torch.zeros(2, 3)},
        {"preds": torch.zeros(2), "logits": LOGITS},
        SimpleNamespace(logits=LOGITS),
        Output(torch.zeros(()), LOGITS),  # the name counts for more than the place
    ],
)
def test_find_logits(output: Any) -> None:
    assert find_logits(output) is LOGITS


def test_a_tuple_with_several_tensors_is_left_to_what_else_is_known() -> None:
    assert find_logits([LOGITS, torch.zeros(2, 5), "more"])[1].shape == (2, 5)


@pytest.mark.parametrize(
    "output", [None, (), [], "logits", (1, "logits"), {"logits": 3}, {"z": LOGITS}, SimpleNamespace(logits="none")]
)
def test_no_logits(output: Any) -> None:
    assert find_logits(output) is None


def observe(
    prediction: Any, target: Any, size: int, fields: tuple[str, ...] = PROBE_FIELDS, **options: Any
) -> dict[str, Tensor]:
    """What is observed of a batch that is the first of its fit."""
    return recognise(BatchReader(**options), prediction, target, size).observe(prediction, target, size, fields=fields)


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().mean(1)


class TestBatchReader:
    def test_prediction(self) -> None:
        assert BatchReader().prediction("nothing") is None
        assert BatchReader(loss_fn=squared_error).prediction("for the loss alone") == "for the loss alone"
        assert BatchReader(logits_fn=lambda output: output[1]).prediction((0, LOGITS)) is LOGITS

    def test_loss_name(self) -> None:
        assert BatchReader().loss_name == "cross_entropy"
        assert BatchReader(loss_fn=squared_error).loss_name == "squared_error"
        assert BatchReader(loss_fn=functools.partial(squared_error)).loss_name == "squared_error"
        assert BatchReader(loss_fn=nn.MSELoss(reduction="none")).loss_name == "MSELoss"

    @settings(max_examples=60, deadline=None)
    @given(
        size=st.integers(0, 6),
        classes=st.integers(2, 5),
        dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
        kind=st.sampled_from([torch.int64, torch.int32, torch.uint8]),
        column=st.booleans(),
        seed=st.integers(0, 2**31),
    )
    def test_observe(
        self, size: int, classes: int, dtype: torch.dtype, kind: torch.dtype, column: bool, seed: int
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        logits = (4 * torch.randn(size, classes, generator=generator)).to(dtype).requires_grad_()
        target = torch.randint(classes, (size,), generator=generator).to(kind)
        shown = target[:, None] if column else target
        observed = observe(logits, shown, size, fields=PROBE_FIELDS)
        assert observed.keys() == {"target", "prediction", *PROBE_FIELDS}
        assert {values.shape for values in observed.values()} == {(size,)}
        assert not any(values.requires_grad for values in observed.values())
        types = (torch.int64, torch.bool, torch.int16)
        assert tuple(observed[name].dtype for name in ("target", "correct", "prediction")) == types
        assert observed["target"].tolist() == target.tolist()
        for position in range(size):
            plain = expected(logits[position].detach().double().tolist(), int(target[position]))
            for name, value in plain.items():
                tolerance = 2e-4 if name in ("sample_easiness", "weakest_comparison") else 1e-5
                assert float(observed[name][position]) == pytest.approx(value, abs=tolerance), name
        few = observe(logits, shown, size, fields=ONLINE_FIELDS)
        assert few.keys() == {"target", "loss", "correct", "margin", "prediction"}

    @pytest.mark.parametrize("shape", [(3,), (3, 1)])
    def test_one_logit_is_two_classes(self, shape: tuple[int, ...]) -> None:
        logits, target = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1, 1, 0])
        observed = observe(logits.reshape(shape), target, 3, fields=PROBE_FIELDS)
        torch.testing.assert_close(observed["margin"], torch.tensor([2.0, -1.0, -0.5]))
        plain = nn.functional.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
        torch.testing.assert_close(observed["loss"], plain)
        assert observed["correct"].tolist() == [True, False, False]

    def test_targets_out_of_range_pass_through(self) -> None:
        """The device must not be stopped in a step; they are reported when the pass is over."""
        reading = recognise(BatchReader(), torch.zeros(2, 3), torch.tensor([0, 1]), 2)
        observed = reading.observe(torch.zeros(2, 3), torch.tensor([-100, 7]), 2, fields=PROBE_FIELDS)
        assert observed["target"].tolist() == [-100, 7]
        assert observed["loss"].isfinite().all()

    @pytest.mark.parametrize(
        ("prediction", "target", "options", "message"),
        [
            *((torch.zeros(shape), TWO, {}, "losses cannot be matched") for shape in ((3, 2), (0, 2))),
            (torch.zeros(()), TWO, {}, "no output per example, as where forward returns its loss; pass `module`"),
            (torch.zeros(4, 3), TWO, {}, "2 outputs per example, as ensembles have; pass logits_fn"),
            (torch.zeros(2, 3, 4), TWO, {}, r"what output torch.float32 \(2, 3, 4\) and targets torch.int"),
            (torch.zeros(2, 3).long(), TWO, {}, "what output torch.int64"),
            (torch.zeros(2, 3), [0, 1], {}, "and targets list are: pass logits_fn or batch_fn"),
            (None, TWO, {}, "what output NoneType"),
            (torch.zeros(2), torch.zeros(2), {"loss_fn": lambda p, t: 3.0}, r"shape \(2,\); got float"),
            (
                None,
                TWO,
                {"batch_size": 0},
                r"^The `batch_size` of BatchReader .* must be an integer >= 1 or None; got 0\.$",
            ),
            (None, TWO, {"sigma2": -1}, r"^The `sigma2` of .* BatchReader must be a finite number above 0; got -1\.$"),
        ],
    )
    def test_what_is_refused(self, prediction: Any, target: Any, options: Any, message: str) -> None:
        """tests/contracts/test_refused.py has the whole messages."""
        with pytest.raises((TypeError, ValueError), match=message):
            observe(prediction, target, 2, **options)


def test_an_output_of_nan_is_never_right() -> None:
    logits, target = torch.full((4, 3), torch.nan), torch.tensor([0, 1, 2, 0])
    assert not observe(logits, target, 4, fields=PROBE_FIELDS)["correct"].any()


# ---------------------------------------------------------------------------------------------- the sums of an epoch

values = st.floats(-100, 100, width=32) | st.just(math.nan)
batches = st.lists(st.lists(st.tuples(st.integers(0, 9), values, st.booleans(), values), max_size=6), max_size=12)


@settings(max_examples=150, deadline=None)
@given(steps=batches, merge_every=st.integers(1, 4))
def test_sums_against_a_dict_of_lists(steps: list[list[tuple[int, float, bool, float]]], merge_every: int) -> None:
    sums = EpochSums(10)
    sums._MERGE_EVERY = merge_every
    seen: dict[int, list[tuple[float, bool, float]]] = collections.defaultdict(list)
    for step in steps:
        index, loss, correct, margin = ([entry[column] for entry in step] for column in range(4))
        observed = {
            "loss": torch.tensor(loss, dtype=torch.float32),
            "correct": torch.tensor(correct, dtype=torch.bool),
            "margin": torch.tensor(margin, dtype=torch.float32),
            "target": torch.tensor(index, dtype=torch.int64) + 1,
        }
        sums.add(torch.tensor(index, dtype=torch.int64), observed)
        for key, *entry in step:
            seen[key].append(tuple(entry))  # type: ignore[arg-type]
    totals, target = sums.totals()
    fields = epoch_means(totals, ("loss", "correct", "margin"))
    assert fields["count"].tolist() == [len(seen[key]) for key in range(10)]
    assert fields["count"].dtype == torch.int32
    for key in range(10):
        entries = seen[key]
        if not entries:
            assert fields["loss"][key].isnan()
            assert fields["margin"][key].isnan()
            assert not fields["correct"][key]
            assert target[key] == UNSEEN_TARGET
            continue
        assert target[key] == key + 1
        assert bool(fields["correct"][key]) == (sum(entry[1] for entry in entries) * 2 >= len(entries))
        for name, column in (("loss", 0), ("margin", 2)):
            mean = math.fsum(entry[column] for entry in entries) / len(entries)
            assert float(fields[name][key]) == pytest.approx(mean, abs=1e-3, nan_ok=True)
    sums.clear()
    assert int(sums.totals()[0].sum()) == 0
    assert sums.totals()[1].tolist() == [UNSEEN_TARGET] * 10


predicted = st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 2**15 - 1)), max_size=6), max_size=8)


@settings(max_examples=150, deadline=None)
@given(processes=st.lists(predicted, min_size=1, max_size=3), merge_every=st.integers(1, 4))
def test_the_last_prediction_is_that_of_the_last_step_of_any_process(
    processes: list[list[list[tuple[int, int]]]], merge_every: int
) -> None:
    found, last = [], {}
    for steps in processes:
        sums = EpochSums(10)
        sums._MERGE_EVERY = merge_every
        for number, step in enumerate(steps):
            index, classes = (torch.tensor([entry[column] for entry in step], dtype=torch.int64) for column in (0, 1))
            sums.add(index, {"prediction": classes.short()})
            for key, each in step:
                last[key] = max(last.get(key, (-1, -1)), (number, each))
        found.append(sums.last_classes())
    classes = to_classes(torch.stack(found).amax(0))
    assert classes.dtype == torch.int16
    assert classes.tolist() == [last[key][1] if key in last else -1 for key in range(10)]


def test_no_class_is_predicted_by_outputs_that_are_nan() -> None:
    logits = torch.tensor([[0.0, math.nan, 1.0], [0.0, 2.0, 1.0], [math.nan] * 3])
    assert observe(logits, torch.tensor([2, 1, 0]), 3, fields=ONLINE_FIELDS)["prediction"].tolist() == [-1, 1, -1]


@pytest.mark.parametrize("num_classes", [2**15, 2**15 + 1])
def test_predictions_of_more_classes_than_they_have_room_for_are_not_recorded(num_classes: int) -> None:
    logits, target = torch.zeros(1, num_classes), torch.tensor([5])
    logits[0, -1] = 1.0
    if num_classes <= 2**15:
        assert observe(logits, target, 1, fields=ONLINE_FIELDS)["prediction"].tolist() == [2**15 - 1]
        return
    message = (
        "The model has 32,769 classes, and predictions are recorded of at most 32,768, so the record holds none;"
        " everything else is recorded."
    )
    reading = recognise(BatchReader(), logits, target, 1)
    with pytest.warns(UserWarning, match=whole(message)):
        announce(reading)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        announce(reading, before=reading)
    observed = reading.observe(logits, target, 1, fields=ONLINE_FIELDS)
    assert observed.keys() == {"target", "loss", "correct", "margin"}
