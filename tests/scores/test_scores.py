import itertools
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.record.writer import RunWriter
from lightning_easiness.scores import SCORES, ScoreDefinition, Scores, get_score, register_score
from tests.made_runs import NUM_EXAMPLES, STEPS, append, make_fields, make_scores, make_target, whole, write_run

SEEDS = (0, 1, 2, 3)
NAN = math.nan


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> EasinessRecord:
    folder = tmp_path_factory.mktemp("runs")
    for seed in SEEDS:
        write_run(folder, seed)
    return EasinessRecord.load(folder)


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> EasinessRecord:
    folder = tmp_path_factory.mktemp("runs")
    for seed in SEEDS:
        write_run(folder, seed, series="train-online")
    return EasinessRecord.load(folder, "train-online")


# ------------------------------------------------------------------ each score against plain loops


Rows = list[dict[str, list[float]]]  # a checkpoint each: field -> value of each example


def observed(seed: int, online: bool) -> Rows:
    rows = []
    for step in STEPS:
        fields = make_fields(1000 * seed + step, online=online)
        values = {name: tensor.tolist() for name, tensor in fields.items()}
        if online:
            seen = [count > 0 for count in values["count"]]
            values["correct"] = [c if s else None for c, s in zip(values["correct"], seen, strict=True)]
        rows.append(values)
    return rows


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else NAN


def run_forgetting(states: list[bool | None]) -> float:
    known = [state for state in states if state is not None]
    if not known:
        return NAN
    if not any(known):
        return len(states)
    return sum(before and not after for before, after in itertools.pairwise(known))


def run_score(name: str, rows: Rows, example: int) -> float:
    """What one run says of one example, computed slowly."""
    last = {field: values[example] for field, values in rows[-1].items()}
    course = {field: [row[field][example] for row in rows] for field in rows[0]}
    seen = {field: [v for v in values if v is not None and v == v] for field, values in course.items()}
    match name:
        case "mean_loss":
            return last["loss"]
        case "count":
            return NAN if last["correct"] is None else float(last["correct"])
        case "margin" | "sample_easiness" | "el2n":
            return last[name]
        case "area_under_margin":
            return mean(seen["margin"])
        case "weighted_area_under_margin" | "weighted_confidence":
            right = [[state for state in row["correct"] if state is not None] for row in rows]
            shares = [sum(states) / len(states) if states else 0.0 for states in right]
            chances = [math.exp(-loss) if loss is not None else None for loss in course["loss"]]
            what = chances if name == "weighted_confidence" else course["margin"]
            weights = [(place + 1) * (a * (1 - a)) ** 2 for place, a in enumerate(shares)]
            pairs = [(x, w) for x, w in zip(what, weights, strict=True) if x is not None and x == x]
            return sum(x * w for x, w in pairs) / sum(w for _, w in pairs) if pairs else NAN
        case "area_under_loss":
            return mean(seen["loss"])
        case "early_agreement":
            early = course["correct"][: max(1, (len(rows) + 1) // 2)]  # the first half, rounded up
            return mean([float(state) for state in early if state is not None])
        case "forgetting_events":
            return run_forgetting(course["correct"])
        case "confidence":
            return mean([math.exp(-loss) for loss in seen["loss"]])
        case "variability":
            chances = [math.exp(-loss) for loss in seen["loss"]]
            middle = mean(chances)
            return math.sqrt(mean([(chance - middle) ** 2 for chance in chances])) if chances else NAN
        case "correctness":
            return mean([float(state) for state in seen["correct"]])
    raise AssertionError(f"write down what {name} is")


def slow_score(name: str, runs: list[Rows]) -> tuple[list[float], list[float]]:
    values, spreads = [], []
    for example in range(NUM_EXAMPLES):
        alone = [run_score(name, rows, example) for rows in runs]
        alone = [value for value in alone if value == value]  # a run that did not see the example has no say
        values.append(mean(alone))
        deviations = [(value - mean(alone)) ** 2 for value in alone]
        spreads.append(math.sqrt(sum(deviations) / (len(alone) - 1)) if len(alone) > 1 else NAN)
    if name == "count":
        right = [[rows[-1]["correct"][example] for rows in runs] for example in range(NUM_EXAMPLES)]
        most = max(sum(map(bool, states)) for states in right)
        values = [NAN if None in states else sum(states) / most for states in right]
    return values, spreads


@pytest.mark.parametrize("last", [0, 1, 2])
@pytest.mark.parametrize("num_runs", [1, 4])
@pytest.mark.parametrize("name", SCORES)
def test_a_score_is_what_plain_loops_make_of_a_probe(
    probe: EasinessRecord, name: str, num_runs: int, last: int
) -> None:
    scores = probe.select_runs(range(num_runs)).score(name, checkpoint=last)
    values, spread = slow_score(name, [observed(seed, False)[: last + 1] for seed in SEEDS[:num_runs]])
    torch.testing.assert_close(scores.values, torch.tensor(values), equal_nan=True)
    torch.testing.assert_close(scores.spread, torch.tensor(spread), equal_nan=True)
    assert scores.num_nan == 0


@pytest.mark.filterwarnings("ignore:.* examples have no .* .NaN in some run.:UserWarning")
@pytest.mark.filterwarnings("ignore:.* examples were seen in fewer than all 4 runs:UserWarning")
@pytest.mark.parametrize("num_runs", [1, 4])
@pytest.mark.parametrize("name", [name for name in SCORES if name not in ("sample_easiness", "el2n")])
def test_a_score_is_what_plain_loops_make_of_an_online_series(online: EasinessRecord, name: str, num_runs: int) -> None:
    scores = online.select_runs(range(num_runs)).score(name)
    values, spread = slow_score(name, [observed(seed, True) for seed in SEEDS[:num_runs]])
    torch.testing.assert_close(scores.values, torch.tensor(values), equal_nan=True)
    torch.testing.assert_close(scores.spread, torch.tensor(spread), equal_nan=True)
    assert scores.num_nan == sum(value != value for value in values) < NUM_EXAMPLES


@pytest.mark.parametrize("name", [name for name in SCORES if SCORES[name].per == "trajectory"])
def test_blocks_of_examples_give_the_same_trajectory_score(
    probe: EasinessRecord, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_scores = probe.score(name)
    monkeypatch.setattr("lightning_easiness.record.score_runs._BLOCK", 20)
    assert torch.equal(probe.score(name).values, whole_scores.values)


# ------------------------------------------------------------------ the registry


@pytest.fixture(scope="module")
def easy_and_hard(tmp_path_factory: pytest.TempPathFactory) -> EasinessRecord:
    """Example 0 is always right with low loss, example 1 always wrong with high loss, in every field."""
    fields = {
        "loss": torch.tensor([0.01, 5.0]),
        "correct": torch.tensor([True, False]),
        "margin": torch.tensor([6.0, -5.0]),
        "sample_easiness": torch.tensor([1.0, 0.0]),
        "el2n": torch.tensor([0.01, 1.4]),
    }
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        write_run(folder, seed, fields=fields, target=torch.tensor([0, 1]))
    return EasinessRecord.load(folder)


@pytest.mark.parametrize("name", [name for name in SCORES if SCORES[name].ranks_difficulty])
def test_always_right_ranks_easier_than_always_wrong(easy_and_hard: EasinessRecord, name: str) -> None:
    scores = easy_and_hard.score(name)
    assert scores.higher_is_easier == SCORES[name].higher_is_easier
    assert (scores.values[0] > scores.values[1]) == scores.higher_is_easier
    assert scores.easiest(0.5).tolist() == [0]
    assert scores.hardest(0.5).tolist() == [1]
    assert scores.ranks.tolist() == [2, 1]


@pytest.mark.parametrize("name", SCORES)
def test_values_lie_in_the_range_that_the_registry_names(probe: EasinessRecord, name: str) -> None:
    low, high = SCORES[name].range
    values = probe.score(name).values
    assert values.dtype == torch.float32
    assert ((values >= low) & (values <= high)).all()


@pytest.mark.parametrize("name", SCORES)
def test_the_registry_is_filled_in(name: str) -> None:
    definition = SCORES[name]
    assert definition.name == name
    assert definition.doc.endswith(".")
    assert definition.paper


def test_a_registered_score_is_computed_with_its_options(probe: EasinessRecord) -> None:
    def quantile_loss(loss: Tensor, level: float = 0.5) -> Tensor:
        return loss.quantile(level, dim=0)

    definition = ScoreDefinition(
        name="quantile_loss",
        function=quantile_loss,
        fields=("loss",),
        per="checkpoint",
        higher_is_easier=False,
        range=(0.0, math.inf),
        paper="",
        doc="A quantile of the loss over runs.",
    )
    assert register_score(definition) is definition
    try:
        scores = probe.score("quantile_loss", level=1.0)
        message = "A score 'quantile_loss' is registered already: give yours another `name`."
        with pytest.raises(ValueError, match=whole(message)):
            register_score(definition)
    finally:
        del SCORES["quantile_loss"]
    assert torch.equal(scores.values, probe.field("loss", -1).amax(0))
    assert torch.equal(scores.spread, probe.field("loss", -1).std(0))


def test_a_registered_score_must_return_one_value_an_example(
    probe: EasinessRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCORES, "sum", replace(SCORES["mean_loss"], name="sum", function=torch.sum))
    message = "The function of score 'sum' must return one value per example, (37,); got ()."
    with pytest.raises(ValueError, match=whole(message)):
        probe.score("sum")


def test_what_the_registry_refuses() -> None:
    names = ", ".join(SCORES)
    with pytest.raises(
        ValueError, match=whole(f"There is no score 'loss': choose from {names}, or register_score() yours.")
    ):
        get_score("loss")
    with pytest.raises(ValueError, match=whole("`per` must be 'checkpoint' or 'trajectory'; got 'epoch'.")):
        register_score(replace(SCORES["margin"], name="new", per="epoch"))  # type: ignore[arg-type]


def test_what_a_score_needs(online: EasinessRecord, tmp_path: Path) -> None:
    message = (
        "Score 'el2n' needs field 'el2n', which is not in series 'train-online', "
        "which holds loss, correct, margin, count."
    )
    with pytest.raises(ValueError, match=whole(message)):
        online.score("el2n")
    write_run(tmp_path, 0, loss_name="focal")
    record = EasinessRecord.load(tmp_path)
    for name in ("confidence", "variability"):
        message = (
            f"Score '{name}' needs the loss 'cross_entropy', but 'focal' was recorded: "
            "observe with the default `loss_fn`, or choose another score."
        )
        with pytest.raises(ValueError, match=whole(message)):
            record.score(name)
    assert len(record.score("mean_loss")) == NUM_EXAMPLES


# ------------------------------------------------------------------ Scores


def test_scores_say_where_they_come_from(probe: EasinessRecord) -> None:
    scores = probe.score("count", checkpoint=1, seed=7)
    assert (scores.name, scores.num_runs, scores.step, scores.epoch, scores.seed) == ("count", 4, 120, 1, 7)
    assert scores.fingerprint == probe.fingerprint
    assert torch.equal(scores.target, make_target())
    assert scores.tie_breaker is not None
    torch.testing.assert_close(scores.tie_breaker, probe.score("mean_loss", checkpoint=1).values)
    assert probe.score("mean_loss").tie_breaker is None
    assert repr(scores) == "Scores('count' of 37 examples, high is easy: 0 to 1; 4 runs; step 120, epoch 1)"


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        (make_scores([1.0, NAN]), "Scores('margin' of 2 examples, high is easy: 1 to 1; 1 run; 1 NaN)"),
        (make_scores([NAN], False), "Scores('margin' of 1 examples, low is easy: all NaN; 1 run; 1 NaN)"),
        (
            make_scores([2.0, 0.123456], step=5),
            "Scores('margin' of 2 examples, high is easy: 0.1235 to 2; 1 run; step 5)",
        ),
    ],
)
def test_scores_are_printed_in_a_line(scores: Scores, text: str) -> None:
    assert repr(scores) == str(scores) == text


def test_ties_in_count_are_broken_by_mean_loss(tmp_path: Path) -> None:
    loss = torch.tensor([0.9, 0.1, 0.5, 0.3, 0.7, 0.2])
    correct = torch.tensor([True, True, True, False, False, False])
    write_run(tmp_path, 0, fields={"loss": loss, "correct": correct}, target=torch.zeros(6, dtype=torch.int64))
    scores = EasinessRecord.load(tmp_path).score("count")
    assert scores.easiest(1.0).tolist() == [1, 2, 0, 5, 3, 4]
    assert scores.hardest(1.0).tolist() == [4, 3, 5, 0, 2, 1]
    assert scores.ranks.tolist() == [4, 6, 5, 2, 1, 3]


def test_ties_without_a_mean_loss_are_broken_by_the_seed_not_by_index() -> None:
    orders = [make_scores([1.0] * 50, seed=seed).easiest(1.0).tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])


def test_unknown_scores_are_warned_of_and_never_chosen(tmp_path: Path) -> None:
    loss = torch.tensor([0.5, NAN, 0.1, NAN, 2.0])
    write_run(tmp_path, 0, fields={"loss": loss}, target=torch.zeros(5, dtype=torch.int64))
    message = "2 of 5 examples have no mean_loss (NaN in some run): they are in neither easiest() nor hardest()."
    with pytest.warns(UserWarning, match=whole(message)) as caught:
        scores = EasinessRecord.load(tmp_path).score("mean_loss")
    assert caught[0].filename == __file__
    assert scores.num_nan == 2
    assert scores.easiest(1.0).tolist() == [2, 0, 4]
    assert scores.hardest(0.4).tolist() == [4, 0]
    assert scores.ranks.tolist() == [2, 0, 3, 0, 1]


@pytest.mark.parametrize("fraction", [0.0, 1.1, -0.5, NAN])
def test_a_fraction_lies_in_0_to_1(fraction: float) -> None:
    for choose in ("easiest", "hardest"):
        with pytest.raises(ValueError, match="fraction"):
            getattr(make_scores([1.0, 2.0]), choose)(fraction)


def test_scores_of_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=whole("`values` must have shape (N,); got (1, 2).")):
        make_scores([[1.0, 2.0]])  # type: ignore[list-item]
    message = "`target` must have one value per example, as `values` has, (2,); got (3,)."
    with pytest.raises(ValueError, match=whole(message)):
        make_scores([1.0, 2.0], target=torch.zeros(3))


# ------------------------------------------------------------------ imports


def test_records_and_scores_do_not_load_lightning_or_pandas() -> None:
    script = (
        "import sys, lightning_easiness.record.record, lightning_easiness.scores.scores;"
        "import lightning_easiness.record.writer;"
        "print([name for name in ('lightning', 'pandas', 'pyarrow', 'torchvision') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_writer_takes_what_a_score_needs(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "a") as writer:
        append(writer, fields={"correct": torch.tensor([True, False])}, target=None)
    scores = EasinessRecord.load(tmp_path).score("count")
    assert scores.values.tolist() == [1.0, 0.0]
    assert scores.target.tolist() == [-1, -1]
    assert scores.tie_breaker is None


# ------------------------------------------------------------------ made by hand


def test_scores_need_values_and_a_direction_alone() -> None:
    scores = Scores(torch.tensor([0.5, 2.0, 1.0]), higher_is_easier=False)
    assert scores.spread.isnan().all()
    assert scores.target.tolist() == [-1, -1, -1]
    assert scores.easiest(1.0).tolist() == [0, 2, 1]
    assert repr(scores) == "Scores('score' of 3 examples, low is easy: 0.5 to 2; 1 run)"
    with pytest.raises(TypeError, match="higher_is_easier"):
        Scores(torch.tensor([0.5]))  # type: ignore[call-arg]


def test_the_fingerprint_of_scores_is_the_recorded_one_or_that_of_their_targets(probe: EasinessRecord) -> None:
    scores = Scores(torch.zeros(NUM_EXAMPLES), higher_is_easier=True, target=make_target())
    assert scores.fingerprint == scores.identity.fingerprint == probe.fingerprint
    assert Scores(torch.zeros(2), higher_is_easier=True, fingerprint="recorded").identity.fingerprint == "recorded"
