"""What the charts of the report draw, of all examples: bins, quantiles over training, classes, confusions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.scores import SCORES, Scores
from lightning_easiness.view.report.columns import Columns

_NUM_BINS = 48
_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
_MOST_CHECKPOINTS = 40  # of the curves
_MOST_CLASSES = 20
_MOST_CONFUSIONS = 10

Chart = dict[str, Any]  # of plain numbers and lists, as JSON takes them


def bins_of(values: NDArray[Any], higher_is_easier: bool) -> tuple[NDArray[np.float64], bool]:
    """Return the edges of a histogram, and whether they are even on a log axis: for a loss over powers of ten."""
    known = values[np.isfinite(values)].astype(np.float64)
    if not len(known):
        return np.array([0.0, 1.0]), False
    positive = known[known > 0]
    if not higher_is_easier and known.min() >= 0 and len(positive):
        low, high = np.quantile(positive, (0.01, 0.95))
        if high > 100 * low:
            return np.geomspace(max(low, known.max() * 1e-8), known.max(), _NUM_BINS + 1), True
    return np.histogram_bin_edges(known, _NUM_BINS), False


def counts_in(edges: NDArray[np.float64], values: NDArray[Any]) -> list[int]:
    """Count values in bins; those outside belong to the first or the last."""
    known = values[np.isfinite(values)].astype(np.float64)
    return np.histogram(known.clip(edges[0], edges[-1]), edges)[0].tolist()  # type: ignore[no-any-return]


def histogram_chart(scores: Scores, columns: Columns, fraction: float = 0.1) -> Chart:
    """Count the examples in bins of the score: all, the easiest and the hardest, the suspects, those kept."""
    values = columns["score"]
    edges, is_log = bins_of(values, scores.higher_is_easier)
    ends = {name: values[getattr(scores, name)(fraction).numpy()] for name in ("easiest", "hardest")}
    parts: Columns = {"all": values, **ends}
    for name in ("suspect", "kept"):
        if name in columns:
            parts[name] = values[columns[name].astype(bool)]
    counts = {name: counts_in(edges, part) for name, part in parts.items()}
    return {"edges": edges.tolist(), "log": is_log, "counts": counts}


def memorization_chart(values: NDArray[Any]) -> Chart:
    """Count values of at most 1 in bins of 0.05, from the lowest."""
    low = min(float(np.nanmin(values)), 0.0)
    edges = np.arange(np.floor(low * 20), 21) / 20
    return {"edges": edges.tolist(), "log": False, "counts": {"all": counts_in(edges, values)}}


def curves_chart(record: EasinessRecord, name: str) -> Chart | None:
    """Return quantiles and mean of a score at each checkpoint and the share that is right; None for one checkpoint."""
    if record.num_checkpoints < 2 or SCORES[name].per != "checkpoint":
        return None
    chosen = np.unique(np.linspace(0, record.num_checkpoints - 1, _MOST_CHECKPOINTS).round().astype(int)).tolist()
    rows = []
    for checkpoint in chosen:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                values = record.score(name, checkpoint).values.double().numpy()
            except ValueError:
                return None
        known = values[np.isfinite(values)]
        if not len(known):
            return None
        rows.append([*np.quantile(known, _LEVELS), known.mean()])
    *quantiles, mean = np.array(rows).T.tolist()
    flat = [value for line in quantiles for value in line if value > 0]
    is_log = not SCORES[name].higher_is_easier and bool(flat) and max(flat) > 100 * min(flat)
    return {
        "series": record.series,
        "steps": record.steps[chosen].tolist(),
        "epochs": record.epochs[chosen].tolist(),
        "quantiles": quantiles,
        "mean": mean,
        "right": _share_right(record, chosen),
        "log": is_log,
    }


def class_rows(columns: Columns, num_runs: int) -> list[Chart]:
    """Return for each class its size, its mean score, the share of right predictions and its suspects; worst first."""
    given = columns["given"]
    labels, place = np.unique(given[given >= 0], return_inverse=True)
    labelled = given >= 0
    size = np.bincount(place, minlength=len(labels))

    def mean(values: NDArray[Any]) -> NDArray[np.float64]:
        known = np.isfinite(values)
        total = np.bincount(place[known], values[known], minlength=len(labels))
        return total / np.maximum(np.bincount(place[known], minlength=len(labels)), 1)

    score = mean(columns["score"][labelled].astype(np.float64))
    more: dict[str, NDArray[np.float64]] = {}
    if "runs_right" in columns:
        more["right"] = mean(columns["runs_right"][labelled] / num_runs)
    if "suspect" in columns:
        more["suspects"] = mean(columns["suspect"][labelled].astype(np.float64)) * size
    if "kept" in columns:
        more["kept"] = mean(columns["kept"][labelled].astype(np.float64))
    order = np.argsort(more.get("right", -size), kind="stable")
    return [
        {"label": int(labels[row]), "size": int(size[row]), "score": float(score[row])}
        | {name: float(values[row]) for name, values in more.items()}
        for row in order[:_MOST_CLASSES]
    ]


def confusions(columns: Columns) -> list[Chart]:
    """Return the most common pairs of given and suggested label among the suspects."""
    if "suspect" not in columns or "suggested" not in columns:
        return []
    chosen = columns["suspect"].astype(bool) & (columns["suggested"] >= 0) & (columns["given"] >= 0)
    pairs = np.stack([columns["given"][chosen], columns["suggested"][chosen]])
    found, counts = np.unique(pairs, axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MOST_CONFUSIONS]
    return [{"given": int(found[0, i]), "suggested": int(found[1, i]), "count": int(counts[i])} for i in order]


def _share_right(record: EasinessRecord, checkpoints: Sequence[int]) -> list[float] | None:
    if "correct" not in record.fields:
        return None
    shares = []
    for checkpoint in checkpoints:
        right = record.field("correct", checkpoint).double()
        seen = ~record.field("loss", checkpoint).isnan() if "loss" in record.fields else right >= 0
        shares.append(float(right[seen].mean()))
    return shares
