"""Whether the seeds are enough: agreement of the scores of disjoint groups of runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lightning_easiness import functional
from lightning_easiness._utils.tables import to_html


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlation between the scores of disjoint groups of runs, in [-1, 1], 1 means the same order.

    `str()` of it is a table.
    """

    name: str  # of the score
    num_runs: int  # R
    half_agreement: float  # measured between random halves of R // 2 runs each
    full_agreement: float  # expected between the R runs and R others, by the Spearman-Brown formula
    extrapolated: dict[int, float]  # expected between larger groups, by number of runs
    num_splits: int = 20  # random splits into halves to average over

    def _rows(self) -> list[tuple[int, float, str]]:
        """Return a number of runs, its agreement, and where that is from, by row."""
        expected = {self.num_runs: self.full_agreement, **self.extrapolated}
        rows = [(self.num_runs // 2, self.half_agreement, f"measured, mean of {self.num_splits} splits")]
        rows += [(num_runs, agreement, "expected") for num_runs, agreement in sorted(expected.items())]
        return rows

    def _title(self) -> str:
        return f"Agreement of {self.name} with the same number of other runs (Spearman)"

    def __str__(self) -> str:
        lines = [f"{num_runs:>6}  {agreement:>9.3f}  {source}" for num_runs, agreement, source in self._rows()]
        return "\n".join([self._title(), "  runs  agreement", *lines])

    def _repr_html_(self) -> str:
        rows = [(str(num_runs), f"{agreement:.3f}", source) for num_runs, agreement, source in self._rows()]
        columns = dict(zip(("runs", "agreement", ""), zip(*rows, strict=True), strict=True))
        return to_html(self._title(), columns, len(rows))


def measure_agreement(
    name: str, alone: Tensor, factor: Sequence[float], *, counts: Tensor | None = None, seed: int, num_splits: int
) -> Agreement:
    """Measure the agreement of random halves of the runs, from the score of each run (R, N), and extrapolate it.

    `counts` says which runs count for an example, bool (R, N); None for all.
    """
    if counts is not None and int(counts.sum(0).max()) < 2:
        raise ValueError(
            f"agreement() of {name} needs examples that count in two runs at least, and each counts in one: hold out a"
            " share in place of folds, or more runs."
        )
    half = functional.split_half_agreement(alone, counts=counts, seed=seed, num_splits=num_splits)
    num_runs = len(alone)
    numbers = [num_runs, *(round(times * num_runs) for times in factor)]
    # The factor is not 2 for an odd number of runs
    expected = {number: float(functional.extrapolate_agreement(half, number / (num_runs // 2))) for number in numbers}
    return Agreement(name, num_runs, float(half), expected.pop(num_runs), expected, num_splits)
