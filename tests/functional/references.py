"""Slow references: plain Python, one example at a time, straight from the definitions in the papers.

Nothing here imports torch. Arguments are nested lists (``tensor.tolist()``), so each value is the exact double of what
the tensor held. Sums are exact (fractions) where the values allow it; probabilities come from numerical integration.
"""

import cmath
import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from fractions import Fraction

Rows = Sequence[Sequence[float]]


def columns(rows: Rows) -> list[tuple[float, ...]]:
    return list(zip(*rows, strict=True))


def exact_mean(values: Iterable[float]) -> float:
    values = list(values)
    if all(math.isfinite(value) for value in values):
        return float(sum(map(Fraction, values), Fraction(0)) / len(values))
    return sum(values) / len(values)  # IEEE: inf stays inf, inf - inf and NaN are NaN


# easiness


def mean_loss_easiness(loss: Rows) -> list[float]:
    return [exact_mean(of_one_example) for of_one_example in columns(loss)]


def count_easiness(correct: Rows) -> list[float]:
    counts = [sum(1 for run in of_one_example if run) for of_one_example in columns(correct)]
    most = max(counts, default=0)
    return [float(Fraction(count, most)) if most else 0.0 for count in counts]


def fraction_to_count(fraction: float, n: int) -> int:
    rounded_half_up = math.floor(Fraction(repr(float(fraction))) * n + Fraction(1, 2))
    return max(1, rounded_half_up) if n else 0


def tied_groups(
    values: Sequence[float], higher_is_easier: bool, tie_breaker: Sequence[float] | None = None
) -> list[set[int]]:
    """Sets of examples that only a draw may order, from the easiest set to the hardest; NaN values in none."""
    groups: dict[tuple[float, ...], set[int]] = {}
    for example, value in enumerate(values):
        if math.isnan(value):
            continue
        tie = 0.0 if tie_breaker is None else tie_breaker[example]
        key = (-value if higher_is_easier else value, float(math.isnan(tie)), 0.0 if math.isnan(tie) else tie)
        groups.setdefault(key, set()).add(example)  # -0.0 and 0.0 hash and compare as equal
    return [groups[key] for key in sorted(groups)]


# agreement


def matching_rate(a: Iterable[int], b: Iterable[int]) -> float:
    a, b = set(a), set(b)
    return float(Fraction(sum(1 for example in a if example in b), max(len(a), len(b))))


def drawn_sets(values: Sequence[float], fraction: float, higher_is_easier: bool, which: str) -> list[set[int]]:
    """Every set of the easiest or hardest fraction that a draw among ties can give, each as likely as the others."""
    count, chosen = fraction_to_count(fraction, len(values)), set()
    for group in tied_groups(values, higher_is_easier)[:: 1 if which == "easy" else -1]:
        if len(chosen) + len(group) > count:
            return [chosen | set(drawn) for drawn in itertools.combinations(group, count - len(chosen))]
        chosen |= group
    return [chosen]


def expected_matching_rate(a: Sequence[set[int]], b: Sequence[set[int]]) -> float:
    """Mean over all pairs of possible sets."""
    return statistics.fmean(matching_rate(one, other) for one in a for other in b)


def average_ranks(values: Sequence[float]) -> list[Fraction]:
    return [
        Fraction(sum(other < value for other in values)) + Fraction(1 + sum(other == value for other in values), 2)
        for value in values
    ]


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if not (math.isnan(x) or math.isnan(y))]
    if not pairs:
        return math.nan
    rank_a, rank_b = average_ranks([x for x, _ in pairs]), average_ranks([y for _, y in pairs])
    middle = Fraction(len(pairs) + 1, 2)
    covariance = sum((x - middle) * (y - middle) for x, y in zip(rank_a, rank_b, strict=True))
    spread_a, spread_b = (sum((x - middle) ** 2 for x in ranks) for ranks in (rank_a, rank_b))
    if not spread_a or not spread_b:
        return math.nan
    return float(covariance) / math.sqrt(spread_a * spread_b)


def split_half_agreements(values: Rows) -> list[float]:
    """The rank correlation of every split into halves."""
    return [rank_correlation(*means) for means in means_of_halves(values)]


def split_half_matching(values: Rows, fraction: float, *, higher_is_easier: bool, which: str) -> float:
    """The mean over every split into halves, and every way to break the ties in them."""
    rates = []
    for means in means_of_halves(values):
        a, b = (drawn_sets(mean, fraction, higher_is_easier=higher_is_easier, which=which) for mean in means)
        rates.append(expected_matching_rate(a, b))
    return statistics.fmean(rates)


def means_of_halves(values: Rows) -> list[list[list[float]]]:
    """The two means of every way to make two equal halves of the runs (one left out when they are odd)."""
    runs = range(len(values))
    left_out = [()] if len(values) % 2 == 0 else [(run,) for run in runs]
    found = []
    for out in left_out:
        kept = [run for run in runs if run not in out]
        for half in itertools.combinations(kept, len(kept) // 2):
            if kept[0] not in half:
                continue  # the same split with the halves swapped
            other = [run for run in kept if run not in half]
            found.append([mean_loss_easiness([values[run] for run in part]) for part in (half, other)])
    return found


def extrapolate_agreement(agreement: float, factor: float) -> float:
    r, f = Fraction(agreement), Fraction(factor)
    return float(f * r / (1 + (f - 1) * r))


# dynamics


def margin(logits: Rows, target: Sequence[int]) -> list[float]:
    margins = []
    for row, label in zip(logits, target, strict=True):
        others = [logit for index, logit in enumerate(row) if index != label]
        margins.append(math.nan if any(map(math.isnan, row)) else row[label] - max(others))
    return margins


def area_under_margin(margins: Rows) -> list[float]:
    areas = []
    for of_one_example in columns(margins):
        seen = [value for value in of_one_example if not math.isnan(value)]
        areas.append(exact_mean(seen) if seen else math.nan)
    return areas


def forgetting_events(correct: Rows) -> list[int]:
    events = []
    for of_one_example in columns(correct):
        story = "".join("1" if answer else "0" for answer in of_one_example)
        events.append(story.count("10") if "1" in story else len(story))
    return events


def softmax(logits: Sequence[float]) -> list[float]:
    probabilities = []
    for logit in logits:
        gaps = [other - logit for other in logits] if logit != -math.inf else [math.inf]
        probabilities.append(0.0 if max(gaps) > 700 else 1 / math.fsum(math.exp(gap) for gap in gaps))
    return probabilities


def el2n(logits: Rows, target: Sequence[int]) -> list[float]:
    return [
        math.dist(softmax(row), [float(index == label) for index in range(len(row))])
        for row, label in zip(logits, target, strict=True)
    ]


def confidence(loss: Rows) -> list[float]:
    return [exact_mean(math.exp(-value) for value in of_one_example) for of_one_example in columns(loss)]


def variability(loss: Rows) -> list[float]:
    return [statistics.pstdev([math.exp(-value) for value in of_one_example]) for of_one_example in columns(loss)]


def correctness(correct: Rows) -> list[float]:
    return [float(Fraction(sum(map(bool, answers)), len(answers))) for answers in columns(correct)]


def windows_of_seen(course: Sequence[float], window: int) -> list[list[float]]:
    """Windows of the checkpoints that saw an example; one of all of them where they are fewer."""
    seen = [value for value in course if not math.isnan(value)]
    return [seen[at : at + window] for at in range(len(seen) - window + 1)] or [seen]


def mean_of_windows(windows: Sequence[float]) -> float:
    return statistics.fmean(windows) if windows else math.nan


def dynamic_uncertainty(loss: Rows, window: int) -> list[float]:
    courses = [windows_of_seen([math.exp(-value) for value in course], window) for course in columns(loss)]
    return [mean_of_windows([statistics.stdev(part) for part in parts if len(part) > 1]) for parts in courses]


def dual(loss: Rows, window: int) -> list[float]:
    courses = [windows_of_seen([math.exp(-value) for value in course], window) for course in columns(loss)]
    return [
        mean_of_windows([(1 - statistics.fmean(part)) * statistics.stdev(part) for part in parts if len(part) > 1])
        for parts in courses
    ]


def tdds(loss: Rows, window: int, decay: float) -> list[float]:
    limit, found = -math.log(1e-8), []
    for course in columns(loss):
        values = []
        for part in windows_of_seen([min(value, limit) for value in course], window):
            changes = [abs(after - before) for before, after in itertools.pairwise(part)]
            values += [statistics.pstdev(changes)] if len(changes) > 1 else []
        weights = [decay * (1 - decay) ** age for age in reversed(range(len(values)))]
        total = sum(weight * value for weight, value in zip(weights, values, strict=True))
        found.append(total / sum(weights) if values else math.nan)
    return found


def early_agreement(correct: Rows, early: float, seen: Rows) -> list[float]:
    number = fraction_to_count(early, len(correct))
    shares = []
    for answers, known in zip(columns(correct), columns(seen), strict=True):
        counted = [bool(answer) for answer, is_known in list(zip(answers, known, strict=True))[:number] if is_known]
        shares.append(float(Fraction(sum(counted), len(counted))) if counted else math.nan)
    return shares


# sample easiness


def standard_normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def probability_greater(mean_a: float, mean_b: float, sigma2: float) -> float:
    """P(a > b) for independent a ~ N(mean_a, sigma2), b ~ N(mean_b, sigma2): integral over a of density times P(b < a).

    The trapezoid rule converges exponentially for such integrands: a step of 1/16 standard deviations leaves no error
    that a double shows.
    """
    sigma = math.sqrt(sigma2)
    step = 1 / 16
    total = 0.0
    for point in range(-12 * 16, 12 * 16 + 1):
        z = point * step
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        total += density * standard_normal_cdf((mean_a + sigma * z - mean_b) / sigma)
    return total * step


def comparisons(rows: Rows, target: Sequence[int], sigma2: float, probabilities: bool = False) -> list[list[float]]:
    """P(h_i > h_j) of each class j but the true one."""
    found = []
    for row, label in zip(rows, target, strict=True):
        h = list(row) if probabilities else softmax(row)
        found.append([probability_greater(h[label], h[j], sigma2) for j in range(len(h)) if j != label])
    return found


def sample_easiness(rows: Rows, target: Sequence[int], sigma2: float, probabilities: bool = False) -> list[float]:
    return [math.prod(row) for row in comparisons(rows, target, sigma2, probabilities)]


def easiness_level(compared: Rows, tol: float) -> list[int]:
    low, high = Fraction(tol), 1 - Fraction(tol)
    return [0 if min(row) <= low else 2 if math.prod(map(Fraction, row)) >= high else 1 for row in compared]


def medium_sample_rate(compared: Rows, tol: float) -> float:
    return float(Fraction(easiness_level(compared, tol).count(1), len(compared)))


def expected_sample_easiness_error(
    easiness: Sequence[float], correct: Sequence[float], num_bins: int, upper_edge_belongs: bool
) -> float:
    """The text leaves open whose an inner edge is: `upper_edge_belongs` takes bins (low, high], else [low, high)."""
    total = Fraction(0)
    for index in range(num_bins):
        low, high = Fraction(index, num_bins), Fraction(index + 1, num_bins)
        members = []
        for value, answer in zip(map(Fraction, easiness), correct, strict=True):
            inside = low < value <= high if upper_edge_belongs else low <= value < high
            first, last = value == 0 and index == 0, value == 1 and index == num_bins - 1
            if inside or first or last:
                members.append((value, Fraction(int(answer))))
        if members:
            accuracy = sum(answer for _, answer in members) / len(members)
            mean = sum(value for value, _ in members) / len(members)
            total += Fraction(len(members), len(easiness)) * abs(accuracy - mean)
    return float(total)


# patterns


def interpolate_grey(image: Sequence[Rows], alpha: float) -> list[list[list[float]]]:
    """One picture (3, H, W)."""
    red, green, blue = image
    height, width = len(red), len(red[0])
    grey = [
        [(Fraction(red[y][x]) + Fraction(green[y][x]) + Fraction(blue[y][x])) / 3 for x in range(width)]
        for y in range(height)
    ]
    keep = Fraction(alpha)
    return [
        [[float(keep * Fraction(channel[y][x]) + (1 - keep) * grey[y][x]) for x in range(width)] for y in range(height)]
        for channel in image
    ]


def tiles(image: Sequence[Rows], tile_height: int, tile_width: int) -> list[tuple]:
    """The tiles of one picture (C, H, W) whose sides the tile divides, all channels of a tile together, by row."""
    height, width = len(image[0]), len(image[0][0])
    return [
        tuple(
            tuple(tuple(channel[y][left : left + tile_width]) for y in range(top, top + tile_height))
            for channel in image
        )
        for top in range(0, height, tile_height)
        for left in range(0, width, tile_width)
    ]


def radial_mask(channel: Rows, radius: float) -> list[list[float]]:
    """One channel (H, W): the naive discrete Fourier sums over the frequencies no farther than `radius` from zero."""
    height, width = len(channel), len(channel[0])

    def signed(index: int, size: int) -> int:
        return index if index < size / 2 else index - size

    pixels = list(itertools.product(range(height), range(width)))
    kept = [(u, v) for u, v in pixels if math.hypot(signed(u, height), signed(v, width)) <= radius]

    def wave(u: int, v: int, y: int, x: int) -> complex:
        return cmath.exp(2j * math.pi * (u * y / height + v * x / width))

    coefficients = {(u, v): sum(channel[y][x] / wave(u, v, y, x) for y, x in pixels) for u, v in kept}
    return [
        [sum(coefficients[u, v] * wave(u, v, y, x) for u, v in kept).real / (height * width) for x in range(width)]
        for y in range(height)
    ]


# runs that hold out


def parts(orders: list[list[int]], share: Fraction) -> list[set[int]]:
    """The parts of a block of runs: permutations laid end to end and cut, an example at a time."""
    size, line, found = len(orders[0]), [], []
    for number, order in enumerate(orders):
        begun = next(cut for cut in cuts(size, share)[::-1] if cut <= number * size)
        end = next(cut for cut in cuts(size, share) if cut > number * size)
        taken = line[begun:]
        free = [example for example in order if example not in taken]
        front = free[: end - number * size]
        line += front + [example for example in order if example not in front]
    ends = cuts(size, share)
    for begin, end in itertools.pairwise(ends):
        found.append(set(line[begin:end]))
        assert len(found[-1]) == end - begin
    return found


def cuts(size: int, share: Fraction) -> list[int]:
    return [math.floor(window * share * size) for window in range(share.denominator + 1)]


def mean_of(values: Sequence[float], counts: Sequence[bool]) -> float:
    counted = [value for value, does in zip(values, counts, strict=True) if does]
    return statistics.fmean(counted) if counted else math.nan


def memorization(correct: Rows, trained_on: Sequence[Sequence[bool]]) -> list[float]:
    found = []
    for answers, trained in zip(columns(correct), columns(trained_on), strict=True):
        found.append(mean_of(answers, trained) - mean_of(answers, [not did for did in trained]))
    return found


def difference_error(values: Rows, trained_on: Sequence[Sequence[bool]]) -> list[float]:
    found = []
    for row, trained in zip(columns(values), columns(trained_on), strict=True):
        groups = [[value for value, did in zip(row, trained, strict=True) if did == which] for which in (True, False)]
        enough = all(len(group) > 1 for group in groups)
        squares = [statistics.variance(group) / len(group) for group in groups] if enough else [math.nan]
        found.append(math.sqrt(sum(squares)) if enough else math.nan)
    return found
