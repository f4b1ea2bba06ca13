"""What `find_label_issues` and cleanlab say about trained cells, and the tables of it; used by `label_cut.py`."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from lightning_easiness import EasinessRecord, LabelIssues, find_label_issues

Row = dict[str, Any]
WAYS = {"seeds": "three seeds", "third": "three seeds, each holds out a third", "folds": "five folds"}
COSTS = {"seeds": 3, "third": 2, "folds": 4}  # in trainings on all examples

# ------------------------------------------------------------------------------------------------------------ measures


def measured(folder: Path, way: str) -> Row:
    """Decide at the defaults, and compare with the truth and with cleanlab."""
    labels = load_file(folder / "labels.safetensors")
    wrong = labels["given"] != labels["true"]
    issues, said = decided(folder / way)
    flagged = torch.zeros_like(wrong)
    flagged[issues.flagged] = True
    low, high = issues.estimated_interval
    return {
        "examples": len(wrong),
        "wrong": float(wrong.double().mean()),
        "rule": issues.rule,
        **agreement(flagged, wrong),
        **ranking(issues, wrong),
        "estimate": issues.estimated_share,
        "low": low,
        "high": high,
        "memorised": any("memoris" in sentence for sentence in said),
        "warnings": " | ".join(said),
        **{f"cleanlab {name}": value for name, value in by_cleanlab(folder, way, labels["given"], wrong).items()},
    }


def decided(folder: Path) -> tuple[LabelIssues, list[str]]:
    """Return the table at the defaults and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        issues = find_label_issues(folder)
    return issues, [str(one.message) for one in caught]


def agreement(flagged: Tensor, wrong: Tensor) -> dict[str, float]:
    """Return the share that is flagged, and precision, recall and F1."""
    both, called, true = (int(mask.sum()) for mask in (flagged & wrong, flagged, wrong))
    found = {"flagged": called / len(wrong), "called": called}
    if true:
        f1 = 2 * both / (called + true)
        found |= {"precision": both / called if called else math.nan, "recall": both / true, "f1": f1}
    else:
        found |= dict.fromkeys(("precision", "recall", "f1"), math.nan)
    return found


def ranking(issues: LabelIssues, wrong: Tensor) -> dict[str, float]:
    """Return AUROC, average precision, and the best F1 of any threshold on the score."""
    names = ("auroc", "ap", "best f1")
    if not bool(wrong.any()):
        return dict.fromkeys(names, math.nan)
    suspicious = (-issues.score if issues.higher_is_easier else issues.score).double()
    truth = wrong[issues.index]
    order = suspicious.argsort(descending=True, stable=True)
    hits = truth[order].cumsum(0)
    f1 = 2 * hits / (torch.arange(1, len(hits) + 1) + int(wrong.sum()))
    scaled = torch.empty_like(suspicious)  # in [0, 1], or torchmetrics takes the sigmoid
    scaled[order] = torch.linspace(1, 0, len(order), dtype=torch.float64)
    measures = (binary_auroc, binary_average_precision)
    return dict(zip(names, [*(float(one(scaled, truth.long())) for one in measures), float(f1.max())], strict=True))


def by_cleanlab(folder: Path, way: str, given: Tensor, wrong: Tensor) -> dict[str, float]:
    """Measure the flags of cleanlab's filter, at its defaults, on the same probabilities; they are kept in a file.

    NaN without cleanlab.
    """
    kept = folder / f"{way}-cleanlab.json"
    if not kept.exists():
        try:
            from cleanlab.filter import find_label_issues as find_by_confident_learning
        except ImportError:
            return dict.fromkeys(agreement(wrong, wrong), math.nan)
        found = find_by_confident_learning(given.numpy(), probabilities(folder / way).numpy(), n_jobs=1)
        kept.write_text(json.dumps(found.nonzero()[0].tolist()))
    flagged = torch.zeros_like(wrong)
    flagged[json.loads(kept.read_text())] = True
    return agreement(flagged, wrong)


def probabilities(folder: Path) -> Tensor:
    """Return what a label rule has: probabilities out of sample where runs held out, else averaged over training."""
    record = EasinessRecord.load(folder, "train-online" if folder.name == "seeds" else "train-probe")
    known = record.probabilities() if folder.name == "seeds" else record.held_out_probabilities()
    return known.double() / known.double().sum(1, keepdim=True)


# -------------------------------------------------------------------------------------------------------------- tables


def tables(rows: list[Row]) -> str:
    """Return all tables, those of fresh cells last."""
    fresh = [row for row in rows if row["fresh"]]
    text = tables_of([row for row in rows if not row["fresh"]])
    return f"{text}\n\n## Fresh cells\n\n{tables_of(fresh)}" if fresh else text


def tables_of(rows: list[Row]) -> str:
    parts = [clean_table([row for row in rows if not row["percent"]])]
    for way, words in WAYS.items():
        chosen = [row for row in rows if row["percent"] and row["way"] == way]
        if chosen:
            parts.append(f"### {words.capitalize()}: {COSTS[way]} trainings\n\n{corrupted_table(chosen)}")
    parts += [kinds_table(rows), aims_table(rows)]
    return "\n\n".join(part for part in parts if part)


def clean_table(rows: list[Row]) -> str:
    """Return the flagged share on labels as they are, a line per network and number of epochs."""
    head = ["data, network, epochs", "three seeds", "estimate", "memorised?", "cleanlab", "a third", "cleanlab"]
    lines = [[*head, "five folds", "cleanlab"]]
    for name, group in groupby(sorted(rows, key=setting), setting):
        ways = {row["way"]: row for row in group}
        seeds = ways.get("seeds")
        line = [name[1], flags(seeds), estimate(seeds), memorised(seeds), percent(seeds, "cleanlab flagged")]
        for way in ("third", "folds"):
            line += [flags(ways.get(way)), percent(ways.get(way), "cleanlab flagged")]
        lines.append(line)
    return markdown(lines)


def corrupted_table(rows: list[Row]) -> str:
    """Return means over the kinds of label errors, a line per network, number of epochs and share of errors."""
    head = ["data, network, epochs", "wrong", "precision", "recall", "F1", "best F1", "AUROC", "estimate", "interval"]
    lines = [[*head, "memorised?", "cleanlab flags", "cleanlab F1"]]
    for (name, share), group in groupby(sorted(rows, key=with_share), with_share):
        held = list(group)
        line = [name[1], f"{share} %", *(mean(held, key, ".2f") for key in ("precision", "recall", "f1", "best f1"))]
        line += [mean(held, "auroc", ".3f"), mean(held, "estimate", ".1%"), spans(held)]
        line += [f"{sum(row['memorised'] for row in held)} of {len(held)}"]
        line += [mean(held, "cleanlab flagged", ".1%"), mean(held, "cleanlab f1", ".2f")]
        lines.append(line)
    return markdown(lines)


def kinds_table(rows: list[Row]) -> str:
    """Return F1 below the best threshold by the kind of label errors, from 5 % on."""
    lines = [["from 5 % wrong", "cells", "F1", "best F1", "estimate less the truth, points", "cleanlab F1"]]
    chosen = [row for row in rows if row["percent"] >= 5]
    for (way, kind), group in groupby(sorted(chosen, key=by_kind), by_kind):
        held = list(group)
        off = [100 * (row["estimate"] - row["wrong"]) for row in held if not math.isnan(row["estimate"])]
        spread = f"{sum(off) / len(off):+.1f} ({min(off):+.1f} to {max(off):+.1f})" if off else "-"
        scores = [mean(held, key, ".2f") for key in ("f1", "best f1")]
        line = [f"{WAYS[way]}, {kind.replace('_', ' ')}", str(len(held)), *scores, spread]
        lines.append([*line, mean(held, "cleanlab f1", ".2f")])
    return markdown(lines) if len(lines) > 1 else ""


def aims_table(rows: list[Row]) -> str:
    """Return in how many cells each aim is met."""
    lines = [["aim", "way", "met in", "not met, the furthest first"]]
    for words, ways, concerns, met in AIMS:
        for way in ways:
            held = [row for row in rows if row["way"] == way and concerns(row)]
            missed = sorted((row for row in held if not met(row)), key=how_far)
            named = "; ".join(short(row) for row in missed[:4]) + ("; ..." if len(missed) > 4 else "")
            if held:
                lines.append([words, WAYS[way], f"{len(held) - len(missed)} of {len(held)}", named or "-"])
    return markdown(lines)


def is_clean(row: Row) -> bool:
    return not row["percent"]


def is_wrong(row: Row) -> bool:
    return row["percent"] >= 5


def has_cleanlab(row: Row) -> bool:
    return is_wrong(row) and not math.isnan(row["cleanlab f1"])


def has_interval(row: Row) -> bool:
    return not math.isnan(row["low"])


def inside(row: Row) -> bool:
    return row["low"] - 1e-9 <= row["wrong"] <= row["high"] + 1e-9


def few(row: Row) -> bool:
    return row["flagged"] <= 0.02


def very_few(row: Row) -> bool:
    return row["flagged"] <= 0.01 or row["called"] <= 2


def near_best(row: Row) -> bool:
    return row["f1"] >= row["best f1"] - 0.05


def as_good_as_cleanlab(row: Row) -> bool:
    return row["f1"] >= row["cleanlab f1"] - 0.005


def memorises(row: Row) -> bool:
    return row["net"] == "wide" and row["percent"] > 0


def warned(row: Row) -> bool:
    return row["memorised"]


def not_warned(row: Row) -> bool:
    return not row["memorised"]


# sentence, ways, which cells it concerns, whether a cell meets it
AIMS: list[tuple[str, tuple[str, ...], Callable[[Row], bool], Callable[[Row], bool]]] = [
    ("clean: at most 2 % flagged", ("seeds",), is_clean, few),
    ("clean: at most 1 % flagged, or two examples", ("third", "folds"), is_clean, very_few),
    ("from 5 % wrong: F1 within 0.05 of the best threshold", tuple(WAYS), is_wrong, near_best),
    ("from 5 % wrong: F1 at least cleanlab's, same probabilities", tuple(WAYS), has_cleanlab, as_good_as_cleanlab),
    ("clean: no warning of memorised labels", tuple(WAYS), is_clean, not_warned),
    ("memorised errors: a warning of them", tuple(WAYS), memorises, warned),
    ("the true share is in the interval", tuple(WAYS), has_interval, inside),
]


def how_far(row: Row) -> float:
    return -row["flagged"] if is_clean(row) else row["f1"] - row["best f1"]


def short(row: Row) -> str:
    kind = "" if is_clean(row) else f" {row['kind'].replace('_', ' ')} {row['percent']} %"
    return f"{setting(row)[1]}{kind}"


def setting(row: Row) -> tuple[int, str]:
    data = ("digits", "wine", "cancer", "mnist", "fashion").index(row["data"])
    net = ("linear", "mlp", "deep", "cnn", "wide").index(row["net"])
    return 10_000 * data + 1000 * net + row["epochs"], f"{row['data']}, {row['net']}, {row['epochs']}"


def with_share(row: Row) -> tuple[tuple[int, str], int]:
    return setting(row), row["percent"]


def by_kind(row: Row) -> tuple[str, str]:
    return row["way"], row["kind"]


def flags(row: Row | None) -> str:
    return "-" if row is None else f"{row['flagged']:.1%} ({row['called']})"


def percent(row: Row | None, key: str) -> str:
    return "-" if row is None or math.isnan(row[key]) else f"{row[key]:.1%}"


def estimate(row: Row | None) -> str:
    span = "" if row is None or not has_interval(row) else f" ({row['low']:.1%} to {row['high']:.1%})"
    return percent(row, "estimate") + span


def memorised(row: Row | None) -> str:
    return "-" if row is None else "yes" if row["memorised"] else "no"


def mean(rows: Iterable[Row], key: str, form: str) -> str:
    values = [row[key] for row in rows if not math.isnan(row[key])]
    return f"{sum(values) / len(values):{form}}" if values else "-"


def spans(rows: list[Row]) -> str:
    held = [row for row in rows if has_interval(row)]
    return f"{mean(held, 'low', '.1%')} to {mean(held, 'high', '.1%')}" if held else "-"


def markdown(lines: list[list[str]]) -> str:
    head, *rest = lines
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rest])
