"""Every registered score against its reference and its definition, then the class `Scores`."""

import itertools
import math
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev, stdev

import pytest
import torch
from torch import Tensor

from lightning_easiness import EasinessRecord, ScoreDefinition, Scores, register_score
from lightning_easiness.record.writer import RunWriter
from lightning_easiness.scores import SCORES, get_score
from tests.made_runs import NUM_EXAMPLES, STEPS, append, make_fields, make_scores, make_target, whole, write_run

SEEDS = (0, 1, 2, 3)
NAN = math.nan
GAPS = (
    "ignore:.* examples have no .* .(NaN in some run|not seen at this checkpoint|never seen)+:UserWarning",
    "ignore:.* examples were seen in fewer than all 4 runs:UserWarning",
)


def load(folder: Path, series: str) -> EasinessRecord:
    for seed in SEEDS:
        write_run(folder, seed, series=series)
    return EasinessRecord.load(folder)


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> EasinessRecord:
    return load(tmp_path_factory.mktemp("runs"), "train-probe")


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> EasinessRecord:
    return load(tmp_path_factory.mktemp("runs"), "train-online")


# those that need runs that hold out are in test_held_out_scores.py
OF_ALL_RUNS = [name for name in SCORES if SCORES[name].over == "trained_on"]
# the training forward does not give the fields of all
ONLINE = [(name, "online") for name in OF_ALL_RUNS if make_fields(0, online=True).keys() >= set(SCORES[name].needs)]


# ------------------------------------------------------------------ each score against plain Python


def weighted(values: list[float | None], accuracy: list[float]) -> float:
    weights = [(place + 1) * (a * (1 - a)) ** 2 for place, a in enumerate(accuracy)]
    pairs = [(value, weight) for value, weight in zip(values, weights, strict=True) if value is not None]
    return sum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs)


def forgotten(correct: list[float | None]) -> float:
    seen = [state for state in correct if state is not None]
    return sum(a and not b for a, b in itertools.pairwise(seen)) if any(seen) else len(correct)


def chances(loss: list[float]) -> list[float]:
    return [math.exp(-value) for value in loss]


def deviation_of_changes(loss: list[float]) -> float:
    changes = [abs(after - before) for before, after in itertools.pairwise(loss)]
    return pstdev(changes) if len(changes) > 1 else fmean([])


# The field that a score of a checkpoint is taken from.
AT_CHECKPOINT = {
    "mean_loss": "loss",
    "count": "correct",
    "classification_probability": "correct",
    **{name: name for name in ("margin", "sample_easiness", "weakest_comparison", "el2n")},
}
# What one run says of one example, from its values (by field, None where it was not seen) at each checkpoint.
# `seen` are the values without None, `accuracy` is that of the whole run at each checkpoint.
OVER_TRAINING: dict[str, Callable[..., float]] = {
    "area_under_margin": lambda values, seen, accuracy: fmean(seen["margin"]),
    "weighted_area_under_margin": lambda values, seen, accuracy: weighted(values["margin"], accuracy),
    "area_under_loss": lambda values, seen, accuracy: fmean(seen["loss"]),
    "early_agreement": lambda values, seen, accuracy: fmean(
        state for state in values["correct"][: (len(accuracy) + 1) // 2] if state is not None
    ),
    "forgetting_events": lambda values, seen, accuracy: forgotten(values["correct"]),
    "confidence": lambda values, seen, accuracy: fmean(chances(seen["loss"])),
    "weighted_confidence": lambda values, seen, accuracy: weighted(
        [None if loss is None else math.exp(-loss) for loss in values["loss"]], accuracy
    ),
    "variability": lambda values, seen, accuracy: pstdev(chances(seen["loss"])),
    "correctness": lambda values, seen, accuracy: fmean(seen["correct"]),
    # fewer checkpoints than a window of ten: one of them all
    "dual": lambda values, seen, accuracy: (1 - fmean(chances(seen["loss"]))) * stdev(chances(seen["loss"])),
    "dynamic_uncertainty": lambda values, seen, accuracy: stdev(chances(seen["loss"])),
    "tdds": lambda values, seen, accuracy: deviation_of_changes(seen["loss"]),
}


def observed_values(seed: int, online: bool, last: int) -> list[dict[str, list[float | None]]]:
    """By checkpoint and field, what was written of each example, None where it was not seen."""
    rows = []
    for step in STEPS[: last + 1]:
        fields = make_fields(1000 * seed + step, online=online)
        seen = fields.get("count", torch.ones(NUM_EXAMPLES)) > 0
        values = {name: tensor.float().tolist() for name, tensor in fields.items()}
        rows.append({name: [v if s else None for v, s in zip(row, seen, strict=True)] for name, row in values.items()})
    return rows


def slow_score(name: str, num_runs: int, online: bool, last: int) -> tuple[list[float], list[float]]:
    """The values and the spread of a score, an example at a time."""
    runs = [observed_values(seed, online, last) for seed in SEEDS[:num_runs]]
    values, spread = [], []
    for example in range(NUM_EXAMPLES):
        alone: list[float] = []
        for rows in runs:
            accuracy = [fmean([v for v in row["correct"] if v is not None]) for row in rows]
            own = {field: [row[field][example] for row in rows] for field in rows[0]}
            seen = {field: [v for v in course if v is not None] for field, course in own.items()}
            try:
                at = AT_CHECKPOINT.get(name)
                value = own[at][-1] if at else OVER_TRAINING[name](own, seen, accuracy)
            except (ZeroDivisionError, ValueError):  # of nothing
                value = None
            if value is not None and seen["loss"]:
                alone.append(float(value))
        values.append(fmean(alone) if alone else NAN)
        spread.append(stdev(alone) if len(alone) > 1 else NAN)
    if name == "count":  # of runs, which must be all; over the largest of them
        right = [[rows[-1]["correct"][example] for rows in runs] for example in range(NUM_EXAMPLES)]
        most = max(sum(map(bool, states)) for states in right)
        values = [NAN if None in states else sum(states) / most for states in right]
    return values, spread


@pytest.mark.filterwarnings(*GAPS)
@pytest.mark.parametrize("last", [0, 1, 2])
@pytest.mark.parametrize("num_runs", [1, 4])
@pytest.mark.parametrize(("name", "series"), [*((name, "probe") for name in OF_ALL_RUNS), *ONLINE])
def test_a_score_is_its_reference_and_nan_where_nothing_was_seen(
    request: pytest.FixtureRequest, name: str, series: str, num_runs: int, last: int
) -> None:
    record = request.getfixturevalue(series).select_runs(range(num_runs))
    scores = record.score(name, last)
    values, spread = slow_score(name, num_runs, series == "online", last)
    torch.testing.assert_close(scores.values, torch.tensor(values), equal_nan=True)
    torch.testing.assert_close(scores.spread, torch.tensor(spread), equal_nan=True)


@pytest.mark.filterwarnings(*GAPS)
@pytest.mark.parametrize("name", [name for name in SCORES if SCORES[name].per == "trajectory"])
def test_blocks_of_examples_give_the_same_score(
    online: EasinessRecord, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = online.score(name)
    monkeypatch.setattr("lightning_easiness.record.score_runs._BLOCK", 20)
    in_blocks = online.score(name)
    for found, expected in ((in_blocks.values, at_once.values), (in_blocks.spread, at_once.spread)):
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


# ------------------------------------------------------------------ each score against its definition


@pytest.mark.parametrize("name", [name for name in OF_ALL_RUNS if SCORES[name].ranks_difficulty])
def test_always_right_ranks_easier_than_always_wrong(tmp_path: Path, name: str) -> None:
    pairs = {
        "loss": [0.01, 5.0],
        "margin": [6.0, -5.0],
        "sample_easiness": [1.0, 0.0],
        "weakest_comparison": [1.0, 0.0],
        "el2n": [0.01, 1.4],
    }
    fields = {"correct": torch.tensor([True, False]), **{field: torch.tensor(pair) for field, pair in pairs.items()}}
    write_run(tmp_path, 0, fields=fields)
    scores = EasinessRecord.load(tmp_path).score(name)
    assert scores.higher_is_easier == SCORES[name].higher_is_easier == bool(scores.values[0] > scores.values[1])
    assert (scores.easiest(0.5).tolist(), scores.hardest(0.5).tolist()) == ([0], [1])
    assert scores.ranks.tolist() == [2, 1]


@pytest.mark.parametrize("name", OF_ALL_RUNS)
def test_a_definition_has_a_text_and_its_range_holds(probe: EasinessRecord, name: str) -> None:
    definition = SCORES[name]
    assert definition.name == name
    assert definition.doc.endswith(".")
    assert definition.paper
    values = probe.score(name).values
    assert values.dtype == torch.float32
    assert ((values >= definition.range[0]) & (values <= definition.range[1])).all()


@pytest.mark.parametrize("name", OF_ALL_RUNS)
def test_a_score_of_a_loss_refuses_another(tmp_path: Path, name: str) -> None:
    write_run(tmp_path, 0, loss_name="focal")
    record = EasinessRecord.load(tmp_path)
    if SCORES[name].loss is None:
        assert len(record.score(name)) == NUM_EXAMPLES
        return
    message = (
        f"Score '{name}' needs the loss 'cross_entropy', but 'focal' was recorded: "
        "observe with the default `loss_fn`, or choose another score."
    )
    with pytest.raises(ValueError, match=whole(message)):
        record.score(name)


@pytest.mark.parametrize("name", SCORES)
def test_a_score_refuses_a_record_without_its_fields(tmp_path: Path, name: str) -> None:
    write_run(tmp_path, 0, series="train-online", fields={"count": torch.ones(NUM_EXAMPLES, dtype=torch.int32)})
    field = SCORES[name].needs[0]
    message = f"Score '{name}' needs field '{field}', which is not in series 'train-online', which holds count."
    with pytest.raises(ValueError, match=whole(message)):
        EasinessRecord.load(tmp_path).score(name)


# ------------------------------------------------------------------ the registry


def test_a_registered_score_is_computed_of_all_examples_with_its_options(
    probe: EasinessRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quantile_loss(loss: Tensor, level: float = 0.5) -> Tensor:
        return (loss - loss.mean()).quantile(level, dim=0)

    monkeypatch.setattr("lightning_easiness.record.score_runs._BLOCK", 20)

    definition = ScoreDefinition("quantile_loss", quantile_loss, ("loss",), "checkpoint", False)
    assert register_score(definition) is definition
    try:
        scores = probe.score("quantile_loss", level=1.0)
        message = "A score 'quantile_loss' is registered already: give yours another `name`."
        with pytest.raises(ValueError, match=whole(message)):
            register_score(definition)
    finally:
        del SCORES["quantile_loss"]
    loss = probe.field("loss", -1)
    torch.testing.assert_close(scores.values, (loss - loss.mean()).amax(0))
    torch.testing.assert_close(scores.spread, (loss - loss.mean(1, keepdim=True)).std(0))


def test_what_the_registry_refuses(probe: EasinessRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    message = f"There is no score 'loss': choose from {', '.join(SCORES)}, or register_score() yours."
    with pytest.raises(ValueError, match=whole(message)):
        get_score("loss")
    with pytest.raises(ValueError, match=whole("`per` must be 'checkpoint' or 'trajectory'; got 'epoch'.")):
        register_score(replace(SCORES["margin"], name="new", per="epoch"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=whole("`over` must be 'trained_on', 'held_out' or 'both'; got 'all'.")):
        register_score(replace(SCORES["margin"], name="new", over="all"))  # type: ignore[arg-type]
    monkeypatch.setitem(SCORES, "sum", replace(SCORES["mean_loss"], name="sum", function=torch.sum))
    with pytest.raises(
        ValueError, match=whole("The function of score 'sum' must return one value per example, (37,); got ().")
    ):
        probe.score("sum")


# ------------------------------------------------------------------ the class `Scores`


def test_scores_say_where_they_come_from(probe: EasinessRecord) -> None:
    scores = probe.score("count", checkpoint=1, seed=7)
    assert (scores.name, scores.num_runs, scores.step, scores.epoch, scores.seed) == ("count", 4, 120, 1, 7)
    assert scores.fingerprint == scores.identity.fingerprint == probe.fingerprint
    assert torch.equal(scores.target, make_target())
    torch.testing.assert_close(scores.tie_breaker, probe.score("mean_loss", checkpoint=1).values)
    assert probe.score("mean_loss").tie_breaker is None
    assert repr(scores) == "Scores('count' of 37 examples, high is easy: 0 to 1; 4 runs; step 120, epoch 1)"


def test_scores_need_values_and_a_direction_alone() -> None:
    scores = Scores(torch.tensor([0.5, 2.0, 1.0]), higher_is_easier=False)
    assert scores.spread.isnan().all()
    assert scores.target.tolist() == [-1, -1, -1]
    assert scores.easiest(1.0).tolist() == [0, 2, 1]
    assert scores.fingerprint == Scores(torch.ones(3), higher_is_easier=True, target=scores.target).fingerprint
    assert Scores(torch.ones(3), higher_is_easier=True, fingerprint="recorded").identity.fingerprint == "recorded"
    with pytest.raises(TypeError, match="higher_is_easier"):
        Scores(torch.tensor([0.5]))  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        (make_scores([1.0, NAN]), "2 examples, high is easy: 1 to 1; 1 run; 1 NaN"),
        (make_scores([NAN], False), "1 examples, low is easy: all NaN; 1 run; 1 NaN"),
        (make_scores([2.0, 0.123456], step=5), "2 examples, high is easy: 0.1235 to 2; 1 run; step 5"),
    ],
)
def test_scores_are_printed_in_a_line(scores: Scores, text: str) -> None:
    assert repr(scores) == str(scores) == f"Scores('margin' of {text})"


def test_ties_in_count_are_broken_by_mean_loss(tmp_path: Path) -> None:
    loss = torch.tensor([0.9, 0.1, 0.5, 0.3, 0.7, 0.2])
    write_run(tmp_path, 0, fields={"loss": loss, "correct": torch.arange(6) < 3})
    scores = EasinessRecord.load(tmp_path).score("count")
    assert scores.easiest(1.0).tolist() == [1, 2, 0, 5, 3, 4]
    assert scores.hardest(1.0).tolist() == [4, 3, 5, 0, 2, 1]
    assert scores.ranks.tolist() == [4, 6, 5, 2, 1, 3]


def test_ties_without_a_mean_loss_are_broken_by_the_seed_not_by_index() -> None:
    orders = [make_scores([1.0] * 50, seed=seed).easiest(1.0).tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])


def test_unknown_scores_are_warned_of_and_never_chosen(tmp_path: Path) -> None:
    write_run(tmp_path, 0, fields={"loss": torch.tensor([0.5, NAN, 0.1, NAN, 2.0])})
    message = "2 of 5 examples have no mean_loss (NaN in some run): they are in neither easiest() nor hardest()."
    with pytest.warns(UserWarning, match=whole(message)) as caught:
        scores = EasinessRecord.load(tmp_path).score("mean_loss")
    assert caught[0].filename == __file__
    assert scores.num_nan == 2
    assert scores.easiest(1.0).tolist() == [2, 0, 4]
    assert scores.hardest(0.4).tolist() == [4, 0]
    assert scores.ranks.tolist() == [2, 0, 3, 0, 1]


def test_the_prediction_is_read_when_it_is_needed_and_once() -> None:
    asked = []

    def read() -> Tensor:
        asked.append(None)
        return torch.tensor([3, -1], dtype=torch.int16)

    scores = make_scores([1.0, 2.0], prediction=read)
    assert scores.easiest(1.0).tolist() == [1, 0]
    assert not asked
    assert (scores.prediction.tolist(), scores.prediction.dtype) == ([3, -1], torch.int64)
    assert len(asked) == 1
    assert make_scores([1.0, 2.0]).prediction is None
    assert "predicted" not in make_scores([1.0, 2.0]).to_pandas()


@pytest.mark.parametrize("name", ["mean_loss", "area_under_margin"])
def test_the_prediction_is_what_most_runs_predict_at_the_checkpoint(tmp_path: Path, name: str) -> None:
    predictions = torch.randint(-1, 4, (5, 2, NUM_EXAMPLES), generator=torch.Generator().manual_seed(0))
    for seed, run in enumerate(predictions):
        with RunWriter(tmp_path, f"seed-{seed}", seed=seed) as writer:
            for step, row in enumerate(run):
                append(writer, step, fields={**make_fields(step), "prediction": row})
    record = EasinessRecord.load(tmp_path)
    for checkpoint in (0, -1):
        scores = record.score(name, checkpoint)
        for example, column in enumerate(predictions[:, checkpoint].T.tolist()):
            votes = Counter(predicted for predicted in column if predicted >= 0)
            best = min(votes, key=lambda predicted: (-votes[predicted], predicted), default=-1)
            assert scores.prediction[example] == record.predicted_class(checkpoint)[example] == best
    again = pickle.loads(pickle.dumps(scores))
    assert torch.equal(again.prediction, record.predicted_class())


def test_bad_input_is_refused() -> None:
    for fraction, choose in itertools.product((0.0, 1.1, -0.5, NAN), ("easiest", "hardest")):
        with pytest.raises(ValueError, match="fraction"):
            getattr(make_scores([1.0, 2.0]), choose)(fraction)
    with pytest.raises(ValueError, match=whole("`values` must have shape (N,); got (1, 2).")):
        make_scores([[1.0, 2.0]], target=None)  # type: ignore[list-item]
    message = "`target` must have one value per example, the shape of `values`, (2,); got (3,)."
    with pytest.raises(ValueError, match=whole(message)):
        make_scores([1.0, 2.0], target=torch.zeros(3))
    message = "`prediction` must have one value per example, the shape of `values`, (2,); got (3,)."
    with pytest.raises(ValueError, match=whole(message)):
        make_scores([1.0, 2.0], prediction=torch.zeros(3))
    message = 'The `class_names` of Scores must be a list of strings, one per class, as ["cat", "dog"]; got [1, 2].'
    with pytest.raises(ValueError, match=whole(message)):
        make_scores([1.0, 2.0], class_names=[1, 2])


def test_records_and_scores_do_not_load_lightning_or_pandas() -> None:
    script = (
        "import sys, lightning_easiness.record.record, lightning_easiness.record.writer;"
        "print([name for name in ('lightning', 'pandas', 'pyarrow', 'torchvision') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
