"""What the functions refuse, and the sentence that says so: the argument, what was given, and the way out."""

import math
import re

import pytest
import torch
from torch import tensor

from tests.functional.cases import CASES, IMAGES, TARGET, K, N, whole

NAN, INF = math.nan, math.inf
BY_OWNER = {case.owner: case for case in reversed(CASES)}  # the first of each
BY_OWNER["fraction_to_count"] = whole("fraction_to_count", fraction=0.5, n=10)
INPUTS = {(case.owner, name): tensor for case in CASES for name, tensor in case.inputs.items()}
UNCHECKED = {("early_agreement", "seen"), ("in_levels_by_loss", "easiness"), ("corrupt_labels", "noise")}
every_input = pytest.mark.parametrize(("owner", "name"), sorted(INPUTS.keys() - UNCHECKED))
# Whole numbers are as good as others in these.
OF_ANY_NUMBERS = ("a", "b", "agreement", "images", "tie_breaker", "values", "weights")
LABELS_OF_ANY_TYPE = {("multi_label_loss", "target"), ("multi_label_margin", "target")}


def refused(error, owner, **changes):
    """The message: one sentence about the first of the changes."""
    with pytest.raises(error) as caught:
        BY_OWNER[owner](**changes)
    message, name = str(caught.value), next(iter(changes))
    assert re.fullmatch(rf"The `{name}` of \w+ must [^\n]*; got [^\n]*\.", message), message
    return message


# ----------------------------------------------------------------------------------------- tensors of every kind


@every_input
def test_tensors_must_be_tensors_of_their_kind(owner, name):
    given = INPUTS[owner, name]
    if name not in ("agreement", "threshold_indices"):
        message = refused(TypeError, owner, **{name: given.tolist()})
        assert message.endswith(" must be a tensor; got list: convert it with torch.as_tensor().")
    others = [torch.complex64] if owner != "shuffle_tiles" else []
    if name not in OF_ANY_NUMBERS and (owner, name) not in LABELS_OF_ANY_TYPE:
        others.append(torch.int64 if given.is_floating_point() else torch.float32)
    for dtype in others:
        assert f"got {dtype}" in refused(TypeError, owner, **{name: given.to(dtype)})


@every_input
def test_tensors_must_have_their_shape(owner, name):
    given = INPUTS[owner, name]
    if name not in ("agreement", "threshold_indices"):
        for other in (given[None], given[0] if given.ndim > 1 else given[:, None]):
            assert str(tuple(other.shape)) in refused((TypeError, ValueError), owner, **{name: other})


PAIRS = {
    case.owner: list(case.inputs) for case in CASES if sum(N in tensor.shape for tensor in case.inputs.values()) > 1
}


@pytest.mark.parametrize("owner", sorted(PAIRS.keys() - {"matching_rate"}))
def test_tensors_must_be_of_the_same_examples(owner):
    name = PAIRS[owner][-1]
    given = INPUTS[owner, name]
    other = given.narrow(given.shape.index(N), 0, N - 1)
    assert f"got {tuple(other.shape)}" in refused(ValueError, owner, **{name: other}).replace("shape (", "(")


# --------------------------------------------------------------------------------------------- numbers and names

FRACTION = "be in (0, 1]; got {}: a tenth is 0.1."
ABOVE_0 = "be a finite number above 0; got {}."
TOL = "be in [0, 0.5), so that hard and easy do not overlap; got {}."
CLASSES = "be at least 2; got {}: with one class no label can be wrong."
TRUE_OR_FALSE = "be True or False; got {!r}."
DROPPED = "be in [0, ratio], [0, 0.5]; got {}: it is a part of what is removed, as a fraction of all examples."
FLOOR = "be the log of a probability, below 0, or None; got {}: use for example math.log(1e-7)."
ONE_LEVEL = 'be "hard", "medium" or "easy", or intervals (low, high) of sample easiness in [0, 1]; got {!r}.'
LEVELS = 'be a sequence of levels, such as ("medium",); got {!r}.'
OF_POOLS = ("hardest_of_pool", "undecided_of_pool")
OF_LEFT_OUT = ("prune_below_mean", "prune_in_windows", "most_aligned")
OF_SHARES = ("random_share", "dealt_share", *OF_POOLS, "inclusion_probability")
POOL = "be in [share, 1], [0.3, 1]; got {}: both are fractions of all examples."
LEFT_OUT = "be in [0, 1); got {}: it is the fraction to leave out, half of them is 0.5."
OF_LEVELS = ("in_levels", "in_levels_by_count", "in_levels_by_loss")
OF_DUAL = (
    "be finite and at least 0, and above 0 for an example; got {}: give the values of record.score('dual') of the"
    " examples that have one."
)
BAD_DUAL = [
    ([0.1] * 11 + [NAN], "nan at index 11"),
    ([-1.0] + [0.1] * 11, "-1.0 at index 0"),
    ([0.1] * 11 + [INF], "inf at index 11"),
    ([0.0] * 12, "0 for each example"),
]
WINDOWS = (("dual", 2), ("dynamic_uncertainty", 2), ("tdds", 3))
OPTIONS = [
    ("fraction_to_count", "fraction", FRACTION, (0.0, -0.1, 1.0001, 10, NAN, INF)),
    ("fraction_to_count", "n", "be at least 0; got {}.", (-1, None)),
    ("easiest", "fraction", FRACTION, (0.0, -0.1, 1.0001, 10, NAN, INF, None, "half")),
    ("hardest", "fraction", FRACTION, (0.0, -0.1, 1.0001, 10, NAN, INF)),
    ("rank_by_easiness", "higher_is_easier", TRUE_OR_FALSE, ("high", None)),
    ("split_by_gap", "higher_is_easier", TRUE_OR_FALSE, ("high", None)),
    ("split_by_mixture", "higher_is_easier", TRUE_OR_FALSE, ("high", None)),
    ("split_by_gap", "limit", "be a number or None; got {}.", (NAN,)),
    ("split_by_mixture", "limit", "be a number or None; got {}.", (NAN,)),
    ("split_half_agreement", "num_splits", "be at least 1; got {}.", (0,)),
    ("split_half_matching", "num_splits", "be at least 1; got {}.", (0,)),
    ("split_half_matching", "fraction", FRACTION, (0.0, 10)),
    ("split_half_matching", "higher_is_easier", TRUE_OR_FALSE, (None,)),
    ("split_half_matching", "which", "be 'easy' or 'hard'; got {!r}.", ("easiest",)),
    ("extrapolate_agreement", "factor", ABOVE_0, (0, -1.0, NAN, INF)),
    ("early_agreement", "early", "be in (0, 1]; got {}: the first half is 0.5.", (0.0, 1.5, -0.5, NAN)),
    *((owner, "window", f"be at least {least}; got {{}}.", (least - 1, None)) for owner, least in WINDOWS),
    ("tdds", "decay", "be in (0, 1]; got {}: the paper takes 0.9.", (0.0, 1.1, NAN)),
    ("draw_by_dual", "ratio", "be in [0, 1); got {}: it is the fraction to remove, 30 % is 0.3.", (1.0, -0.1, NAN)),
    ("running_mean", "momentum", "be in [0, 1); got {}: the weight of what was before.", (1.0, -0.1, NAN)),
    ("draw_by_dual", "c_d", ABOVE_0, (0.0, NAN)),
    ("sample_easiness", "sigma2", ABOVE_0, (0.0, -1e-4, NAN, INF, None, "a")),
    ("sample_easiness", "num_draws", "be at least 1; got {}.", (0,)),
    ("sample_easiness", "method", "be 'exact' or 'monte_carlo'; got {!r}.", ("montecarlo",)),
    ("sample_easiness_loss", "sigma2", ABOVE_0, (0.0, 0, -1e-4, NAN, INF)),
    ("sample_easiness_loss", "floor", FLOOR, (0.0, 0, 1e-7, 3.0, INF, NAN, "a")),
    ("sample_easiness_loss", "reduction", "be 'mean', 'sum' or 'none'; got {!r}.", ("average", "", None, "MEAN")),
    ("easiness_level", "tol", TOL, (-0.1, 0.5, NAN, None)),
    ("medium_sample_rate", "tol", TOL, (-0.1, 0.5, NAN)),
    ("in_levels", "tol", TOL, (0.5,)),
    ("in_levels_by_loss", "tol", TOL, (-0.1,)),
    ("expected_sample_easiness_error", "num_bins", "be at least 1; got {}.", (0,)),
    *((owner, "levels", LEVELS, ("medium", (), None)) for owner in OF_LEVELS),
    ("interpolate_grey", "alpha", "be in [0, 1]; got {}.", (-0.1, 1.1, NAN)),
    ("shuffle_tiles", "tile_size", "be in (0, 1]; got {}: half the side is 0.5.", (0.0, -0.5, 1.1, NAN)),
    ("radial_mask", "radius", "be at least 0; got {}.", (-1.0, NAN)),
    ("threshold_examples", "num_classes", CLASSES, (1, "a")),
    ("threshold_examples", "part", "be 0 or 1, one of the two runs; got {!r}.", (2, -1)),
    ("threshold_of", "percentile", "be in (0, 100]; got {}: the paper's is 99.", (0, -1.0, 100.5, NAN)),
    ("refine_by_sample_easiness", "which", "be 'easy' or 'hard'; got {!r}.", ("medium",)),
    ("corrupt_labels", "ratio", "be in [0, 1]; got {}: 20 % label errors is 0.2.", (-0.1, 1.2, NAN, None)),
    ("corrupt_labels", "noise", "be 'next_class', 'uniform' or a matrix (K, K); got {!r}.", ("flip",)),
    ("corrupt_labels", "num_classes", CLASSES, (1,)),
    ("ablate", "ratio", "be in [0, 1); got {}: it is the fraction to remove, 30 % is 0.3.", (1.0, 1.2, -0.1, NAN, INF)),
    ("ablate", "remove", "be 'easy', 'hard' or 'random'; got {!r}.", ("medium",)),
    ("ablate", "higher_is_easier", TRUE_OR_FALSE, (None, 1)),
    ("ablate", "num_strata", "be at least 1; got {}.", (0,)),
    ("ablate", "hardest_dropped", DROPPED, (-0.1, 1.0, 0.6, NAN)),
    ("relabel", "noise", "be 'uniform' or 'next_class'; got {!r}.", ("shuffle",)),
    ("relabel", "num_classes", "be at least 1; got {}.", (0,)),
    ("weighted_sample", "count", "be at least 0; got {}.", (-1,)),
    *((owner, "share", "be in (0, 1]; got {}: half is 0.5.", (0.0, 1.2, NAN, None)) for owner in OF_SHARES),
    *((owner, "num_examples", "be at least 1; got {}.", (0, None)) for owner in ("random_share", "dealt_share")),
    ("dealt_share", "epoch", "be at least 0; got {}.", (-1,)),
    *(
        (owner, "share", LEFT_OUT, (1.0, -0.1, NAN, None))
        for owner in ("prune_below_mean", "prune_in_windows", "most_aligned")
    ),
    *((owner, "pool", POOL, (0.2, 1.1, NAN)) for owner in OF_POOLS),
    ("inclusion_weights", "epochs", "be at least 1; got {}.", (0,)),
    ("inclusion_probability", "power", "be at least 0; got {}.", (-1, NAN)),
    ("inclusion_probability", "uniform", "be in [0, 1]; got {}: a fifth is 0.2.", (-0.1, 1.1, NAN)),
    ("weighted_sample", "count", "be an integer; got {!r}: round it first.", (2.0, True)),
]


@pytest.mark.parametrize(
    ("owner", "name", "sentence", "value"),
    [
        pytest.param(owner, name, sentence, value, id=f"{owner}-{name}={value}")
        for owner, name, sentence, values in OPTIONS
        for value in values
    ],
)
def test_numbers_and_names_must_be_in_their_range(owner, name, sentence, value):
    message = refused((TypeError, ValueError), owner, **{name: value})
    assert message == f"The `{name}` of {owner} must {sentence.format(value)}"


@pytest.mark.parametrize("owner", ["rank_by_easiness", "easiest", "hardest", "ablate"])
def test_a_direction_is_never_guessed(owner):
    case = BY_OWNER[owner]
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'higher_is_easier'"):
        case._replace(options={key: case.options[key] for key in case.options.keys() - {"higher_is_easier"}})()


# ------------------------------------------------------------------------------------- numbers within tensors

SAME = "have the shape of `{}`, {}; got {}: give both for the same examples."
ROWS = "have shape ({0}s, N) with at least one {0}; got shape (0, 3): one {0} alone is `{1}[None]`."
ONCE = "contain each example once; got example {} more than once: drop repeats with .unique()."
LABELS = "be in [0, {}), the classes; got {} at index {}: raise `num_classes`, or leave out examples without a label."
TARGETS = (
    "be in [0, 4), the classes of `logits`; got {}: leave out examples without a label, and check the number of "
    "outputs of the model."
)
TWO_CLASSES = (
    "have shape (N, K) with K >= 2 classes; got shape (12, 1): move the classes last and flatten the rest, and "
    "give a single logit x as the two logits (0, x)."
)
OUTPUTS = (
    "be at least 0 and sum to 1 in each row; got a sum of {} and a minimum of {} in row {}: give softmax "
    "outputs, for example logits.softmax(1)."
)
WEIGHTS = "be finite numbers of at least 0, one per checkpoint, (3,); got {} of shape {}."
CORRECT = "contain only 0 and 1; got 2: compare predictions with targets, as in `prediction == target`."
NAMES_ALONE = 'be "hard", "medium" or "easy", since the loss has no intervals; got {!r}.'
MORE_THAN_ALL = "be at most N - num_hard = {}; got {}: give the counts of the same data set."
INFINITE = (
    "be finite for sampling={!r}; got 1 infinite of 3, the first at index 1: use sampling='beta' or 'top', which "
    "need only their order."
)
NO_DIFFICULTY = (
    "give at least one example a difficulty above 0 for sampling='proportional'; got {} for each of 3: use "
    "remove='random'."
)
NOT_NAN = (
    "not be NaN; got 1 NaN of 3, the first at index 1: with `known = (~values.isnan()).nonzero()[:, 0]` use "
    "`known[ablate(values[known], ...)]`."
)
NO_WEIGHT = "be finite and at least 0; got {} at index 1 (1 of 3 are invalid): a weight of 0 leaves an example out."
COUNT = (
    "be at most the number of weights above 0, {} of {}; got {}: draw fewer, or give every example that may be "
    "drawn a weight above 0."
)
ROW = "hold probabilities that sum to 1 in each row; got row 0, {}: noise[c, j] is the probability that c becomes j."
WAY_OUT = "omit probabilities=True for logits."
PROBABILITIES = f"hold probabilities that sum to 1 in each row; got a sum of {{}} in row 1: {WAY_OUT}"
BAD_OUTPUTS = [("1.8", [0.9, 0.9, 0.0]), ("0", [2.0, 1.0, -3.0]), ("1", [1.5, -0.5, 0.0])]
EMPTY, TWO = torch.tensor([], dtype=torch.int64), TARGET[:2]
MASK, EYE = torch.ones(3, dtype=torch.bool), torch.eye(K)
CHANNELS = (
    "have shape (N, 3, H, W); got shape (12, 1, 4, 6): a single image is `image[None]`, and channels come before "
    "height and width."
)
UNKNOWN = (
    "be at least 0; got 3 of 12 below 0, which are unknown labels: set class_balanced=False, or leave those examples "
    "out."
)
SQUARE = "have shape (K, K) = ({0}, {0}); got shape {1}: give a row for each true class."
SHARED = (
    "be disjoint, so that each example has its own label in some run; got example 0 in more than one run: use "
    "`part` 0 and 1 of threshold_examples() with the same seed."
)
NEGATIVE = (
    "be at least 0 for sampling='proportional' if low is easy; got -0.5 at index 1: for a margin set "
    "higher_is_easier=True, otherwise use sampling='beta', which needs only their order."
)
OF_LOGITS = ("margin", "el2n", "sample_easiness", "sample_easiness_loss")
OF_PROBABILITIES = ("confident_joint", "suggest_labels", "self_confidence", "normalized_margin", "replace_confidence")
RULES = ("proportional", "beta", "top", "stratified", "window")
BAD_LEVELS = [
    (["mid"], "mid"),
    ([(0.7, 0.3)], (0.7, 0.3)),  # upside down
    ([(-0.1, 0.3)], (-0.1, 0.3)),
    (["easy", (0.3, 1.1)], (0.3, 1.1)),
    ([(NAN, 1.0)], (NAN, 1.0)),
    ([(0.1, 0.2, 0.3)], (0.1, 0.2, 0.3)),
    ((0.3, 0.7), 0.3),  # an interval that is not in a sequence
    ([("medium", "easy")], ("medium", "easy")),
    ((1,), 1),
]


def row(owner, sentence, **changes):
    """A call with these changes, and what the sentence about the first of them says after "must"."""
    return owner, sentence, changes


REFUSED = [
    row("matching_rate", "not be empty if `b` is empty; got two empty sets.", a=~MASK, b=~MASK),
    row("matching_rate", "not be empty if `b` is empty; got two empty sets.", a=EMPTY, b=EMPTY),
    row("expected_matching_rate", "not be empty if `b` is empty; got two empty sets.", a=EMPTY, b=EMPTY),
    row("expected_matching_rate", "be in [0, 1]; got 2.0: take it from selection_probability().", a=tensor([2.0])),
    row("expected_matching_rate", "be in [0, 1]; got nan: take it from selection_probability().", b=tensor([NAN])),
    row("matching_matrix", "not be empty where `b` is empty; got two empty sets.", a=~MASK[None], b=~MASK[None]),
    row("matching_matrix", "have shape (A, N), one set in each row; got shape (3,).", a=MASK),
    row("matching_matrix", "hold the 3 examples that `a` holds; got shape (1, 2).", b=MASK[None, :2], a=MASK[None]),
    row("matching_matrix", "be in [0, 1]; got 2.0: take it from selection_probability().", a=tensor([[2.0] * 12])),
    row("selection_probability", "be in (0, 1]; got 10: a tenth is 0.1.", fraction=10),
    row("selection_probability", "be 'easy' or 'hard'; got 'easiest'.", which="easiest"),
    row("matching_rate", ONCE.format(1), a=tensor([1, 1, 2])),
    row("matching_rate", ONCE.format(2), b=tensor([2, 3, 2])),
    row("matching_rate", SAME.format("a", (3,), (2,)), b=MASK[:2], a=MASK),
    row("rank_correlation", SAME.format("a", (12,), (1,)), b=tensor([1.0])),
    row("rank_by_easiness", SAME.format("values", (12,), (1,)), tie_breaker=tensor([1.0])),
    row(
        "split_half_agreement",
        "hold at least 2 runs; got 1: repeat the training with another seed.",
        values=torch.rand(1, 3),
    ),
    row("split_half_agreement", ROWS.format("run", "values"), values=torch.rand(0, 3)),
    row("mean_loss_easiness", ROWS.format("run", "loss"), loss=torch.rand(0, 3)),
    row("most_predicted_class", ROWS.format("run", "prediction"), prediction=torch.zeros(0, 3).long()),
    row("count_easiness", ROWS.format("run", "correct"), correct=MASK[None][:0]),
    row("count_easiness", CORRECT, correct=tensor([[0, 2]])),
    row("forgetting_events", CORRECT, correct=tensor([[0, 2]])),
    row("area_under_margin", ROWS.format("checkpoint", "margin"), margin=torch.rand(0, 3)),
    *(
        row("area_under_margin", WEIGHTS.format([1.0, bad, 0.0], (3,)), weights=tensor([1.0, bad, 0.0]))
        for bad in (-1.0, INF, NAN)
    ),
    row("area_under_margin", WEIGHTS.format([1.0, 2.0], (2,)), weights=tensor([1.0, 2.0])),
    row("confidence", WEIGHTS.format([1.0, 2.0], (2,)), weights=tensor([1.0, 2.0])),
    row("learning_weights", "be in [0, 1], fractions of the examples; got 0.5 to 50.", accuracy=tensor([0.5, 50.0])),
    *(row(owner, TARGETS.format(4), target=TARGET + 1) for owner in OF_LOGITS),
    *(row(owner, TARGETS.format(-1), target=TARGET - 1) for owner in OF_LOGITS),
    row("sample_easiness", TARGETS.format(4), target=TARGET + 1, method="monte_carlo"),
    *(row(owner, TARGETS.format(-100), target=TARGET - 100, probabilities=True) for owner in OF_LOGITS[2:]),
    *(
        row(
            owner, PROBABILITIES.format(total), logits=tensor([[1.0, 0, 0], bad]), target=TARGET[:2], probabilities=True
        )
        for owner in OF_LOGITS[2:]
        for total, bad in BAD_OUTPUTS
    ),
    *(row(owner, TWO_CLASSES, logits=torch.rand(N, 1)) for owner in OF_LOGITS),
    *(row(owner, LABELS.format(4, 4, 3), given=TARGET + 1) for owner in OF_PROBABILITIES),
    *(
        row(owner, OUTPUTS.format(5, 2, 1), probabilities=tensor([[0.5, 0.5], [2.0, 3.0]]))
        for owner in OF_PROBABILITIES
    ),
    *(row(owner, OUTPUTS.format(1, -0.5, 0), probabilities=tensor([[1.5, -0.5]])) for owner in OF_PROBABILITIES),
    row("replace_confidence", "be in [0, 1], probabilities; got -0.5 to 1.", confidence=torch.linspace(-0.5, 1, N)),
    row(
        "expected_sample_easiness_error",
        "be in [0, 1]; got 1.09091: give the result of sample_easiness().",
        easiness=torch.linspace(0, 3, N),
    ),
    *(row(owner, ONE_LEVEL.format(bad), levels=levels) for owner in OF_LEVELS for levels, bad in BAD_LEVELS),
    row("in_levels_by_count", MORE_THAN_ALL.format(9, 10), num_medium=10),
    row("in_levels_by_count", MORE_THAN_ALL.format(-1, 0), num_medium=0, num_hard=13),
    row("in_levels_by_count", NAMES_ALONE.format(["medium", (0.1, 0.2)]), levels=["medium", (0.1, 0.2)]),
    row("in_levels_by_loss", NAMES_ALONE.format(["medium", (0.1, 0.2)]), levels=["medium", (0.1, 0.2)]),
    row("interpolate_grey", CHANNELS, images=IMAGES[:, :1]),
    row("corrupt_labels", LABELS.format(2, 2, 2), target=TARGET, num_classes=2),
    row("corrupt_labels", LABELS.format(3, -1, 0), target=TARGET - 1, num_classes=3),
    row(
        "corrupt_labels",
        "be None with a matrix, which determines how many labels become wrong; got 0.5.",
        ratio=0.5,
        noise=EYE,
    ),
    row("corrupt_labels", SQUARE.format(4, (2, 4)), noise=EYE[:2], ratio=None),
    row("corrupt_labels", SQUARE.format(5, (4, 4)), noise=EYE, ratio=None, num_classes=5),
    row("corrupt_labels", ROW.format([2.0, 0.0, 0.0, 0.0]), noise=EYE * 2, ratio=None),
    row("corrupt_labels", ROW.format([1.375, -0.125, -0.125, -0.125]), noise=1.5 * EYE - 1 / 8, ratio=None),
    row("threshold_examples", LABELS.format(4, 4, 3), target=TARGET + 1),
    row("threshold_examples", LABELS.format(4, -1, 0), target=TARGET - 1),
    row(
        "threshold_examples",
        "have enough examples for two sets of N / (K + 1); got N = 1 and K = 4.",
        target=tensor([0]),
    ),
    row(
        "threshold_of",
        "contain at least one known value; got 2, all NaN: check that the threshold examples were trained on.",
        values=tensor([NAN, NAN]),
    ),
    row("compare_to_thresholds", SHARED, threshold_indices=tensor([[0], [0], [1]])),
    row("compare_to_thresholds", "have one entry per run, 3; got 1.", threshold_indices=tensor([[0]])),
    row(
        "compare_to_thresholds",
        "be in [0, 12), the examples of `values`; got 12 in run 1.",
        threshold_indices=tensor([[0], [12], [1]]),
    ),
    row("ablate", NEGATIVE, values=tensor([1.0, -0.5, 2.0]), higher_is_easier=False),
    *(row("ablate", NOT_NAN, values=tensor([1.0, NAN, 2.0]), sampling=rule) for rule in RULES),
    *(
        row("ablate", INFINITE.format(rule), values=tensor([1.0, INF, 2.0]), sampling=rule)
        for rule in ("proportional", "stratified")
    ),
    row("ablate", INFINITE.format("proportional"), values=tensor([1.0, -INF, 2.0])),
    row("ablate", NO_DIFFICULTY.format(1.0), values=torch.ones(3)),
    row("ablate", NO_DIFFICULTY.format(0.0), values=torch.zeros(3), higher_is_easier=False),
    row(
        "ablate",
        "be given with class_balanced=True; got None: give the class of each example, integers of shape (N,).",
        target=None,
        class_balanced=True,
    ),
    row("ablate", SAME.format("values", (12,), (4,)), target=TARGET[:4], class_balanced=True),
    row("ablate", UNKNOWN, target=TARGET - 1, class_balanced=True),
    row(
        "ablate",
        "be 0 for sampling='top'; got 0.1: it is for 'stratified' and 'window'.",
        hardest_dropped=0.1,
        sampling="top",
    ),
    row(
        "alignment",
        "have one value per epoch, (5,); got (4,): give the losses of the same epochs.",
        reference=torch.rand(4),
    ),
    *(row("draw_by_dual", OF_DUAL.format(got), dual=tensor(bad)) for bad, got in BAD_DUAL),
    row(
        "draw_by_dual",
        "be known; got NaN at index 1: leave that example out.",
        confidence=tensor([0.5, NAN, 1.0]),
        dual=tensor([0.1, 0.2, 0.3]),
    ),
    row("draw_by_dual", "be in [0, 1], probabilities; got 0 to 2.", confidence=torch.linspace(0, 2, N)),
    row("relabel", ONCE.format(0), indices=tensor([0, 1, 0])),
    *(
        row(
            "relabel",
            f"be in [0, 12), the examples of `target`; got {bad}: give indices into the whole data set.",
            indices=tensor([0, bad]),
        )
        for bad in (12, -1)
    ),
    row("relabel", LABELS.format(4, 4, 3), target=TARGET + 1),
    row("relabel", LABELS.format(4, -1, 0), target=TARGET - 1),
    *(row("weighted_sample", NO_WEIGHT.format(bad), weights=tensor([1.0, bad, 2.0])) for bad in (NAN, -1.0, INF, -INF)),
    row("weighted_sample", COUNT.format(2, 4, 3), count=3, weights=tensor([1.0, 0.0, 2.0, 0.0])),
    row("weighted_sample", COUNT.format(3, 3, 4), count=4, weights=torch.ones(3)),
    row("weighted_sample", COUNT.format(0, 3, 1), count=1, weights=torch.zeros(3)),
    row("inclusion_probability", "be at least 0; got -0.5: give losses.", values=tensor([1.0, -0.5])),
    *(
        row(
            "systematic_sample",
            f"be in [0, 1]; got {bad}: as inclusion_probability() returns.",
            probability=tensor([bad]),
        )
        for bad in (1.5, -0.5, NAN)
    ),
]


@pytest.mark.parametrize(("owner", "sentence", "changes"), REFUSED)
def test_numbers_within_tensors_must_make_sense(owner, sentence, changes):
    assert refused(ValueError, owner, **changes).split(" must ", 1)[1] == sentence


def test_options_are_refused_for_an_empty_batch_too():
    nothing = {"logits": torch.empty(0, 3), "target": torch.empty(0, dtype=torch.int64)}
    for options in ({"sigma2": 0.0}, {"floor": 1.0}, {"reduction": "average"}):
        refused(ValueError, "sample_easiness_loss", **options, **nothing)
