"""One number an example: the registry of scores, and `Scores`, which carries the numbers with their direction."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import inf, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from lightning_easiness import functional
from lightning_easiness.tables import Columns, import_for_tables, to_pandas, write_csv

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SCORES", "ScoreDefinition", "Scores", "get_score", "register_score"]


@dataclass(frozen=True)
class ScoreDefinition:
    """How a score is computed from what was recorded, and how to read it.

    Attributes:
        name: the name for `EasinessRecord.score`.
        function: takes one tensor a field, in the order of `fields`, and options as keywords; returns `(N,)`. All are
            floats, NaN where an example was not seen; so `correct` is 1 right, 0 wrong, NaN not seen.
        fields: fields of the record that `function` takes.
        per: "checkpoint": `function` takes `(R, N)`, all runs at one checkpoint. "trajectory": it takes `(C, n)`, one
            run, a block of examples, all checkpoints up to the one asked for; the score is the mean over runs. It must
            treat examples apart: at a million examples the blocks keep memory flat.
        higher_is_easier: the direction.
        range: lowest and highest value that can be.
        paper: where the score comes from.
        doc: one sentence for people who choose a score.
        loss: name of the recorded loss that the score needs, None for any.
        ranks_difficulty: False for a score of which neither end is "easy", such as variability.
    """

    name: str
    function: Callable[..., Tensor]
    fields: tuple[str, ...]
    per: Literal["checkpoint", "trajectory"]
    higher_is_easier: bool
    range: tuple[float, float]
    paper: str
    doc: str
    loss: str | None = None
    ranks_difficulty: bool = True


#: All scores by name.
SCORES: dict[str, ScoreDefinition] = {}


def register_score(definition: ScoreDefinition) -> ScoreDefinition:
    """Make a score known by its name to `EasinessRecord.score`, the command line and the reports.

    Raises:
        ValueError: the name is taken, or `per` is neither "checkpoint" nor "trajectory".

    Example:
        >>> worst = ScoreDefinition(
        ...     name="worst_loss", function=lambda loss: loss.amax(0), fields=("loss",), per="checkpoint",
        ...     higher_is_easier=False, range=(0.0, inf), paper="", doc="Largest loss of all runs.",
        ... )
        >>> register_score(worst).name
        'worst_loss'
        >>> del SCORES["worst_loss"]
    """
    if definition.name in SCORES:
        raise ValueError(f"A score {definition.name!r} is registered already: give yours another `name`.")
    if definition.per not in ("checkpoint", "trajectory"):
        raise ValueError(f"`per` must be 'checkpoint' or 'trajectory'; got {definition.per!r}.")
    SCORES[definition.name] = definition
    return definition


def get_score(name: str) -> ScoreDefinition:
    """Look up a registered score.

    Raises:
        ValueError: there is none of that name; the message lists all.

    Example:
        >>> get_score("mean_loss").higher_is_easier
        False
    """
    if name not in SCORES:
        raise ValueError(f"There is no score {name!r}: choose from {', '.join(SCORES)}, or register_score() yours.")
    return SCORES[name]


@dataclass(frozen=True, eq=False, repr=False)
class Scores:
    """One number an example, with its spread over runs and its direction.

    Attributes:
        values: float `(N,)`; NaN where the score is not known.
        spread: float `(N,)`, standard deviation (ddof=1) over runs of what each run alone would give; NaN for one run.
        higher_is_easier: the direction of `values`.
        target: class of each example, int64 `(N,)`, -1 where not known.
        name: name of the score.
        num_runs: R.
        step: optimizer updates before the checkpoint.
        epoch: epoch of the checkpoint.
        fingerprint: names the data set.
        tie_breaker: float `(N,)`, low is easy: decides between equal values; the mean loss, where it is recorded.
        seed: decides what is left of ties.

    Example:
        >>> values = torch.tensor([0.1, 2.0, 0.7, 0.3])
        >>> spread = torch.full((4,), torch.nan)
        >>> scores = Scores(values, spread, higher_is_easier=False, target=torch.tensor([0, 1, 1, 0]), name="mean_loss")
        >>> scores
        Scores('mean_loss' of 4 examples, low is easy: 0.1 to 2; 1 run)
        >>> scores.easiest(0.5)
        tensor([0, 3])
        >>> scores.hardest(0.25)
        tensor([1])
    """

    values: Tensor
    spread: Tensor
    higher_is_easier: bool
    target: Tensor
    name: str
    num_runs: int = 1
    step: int | None = None
    epoch: int | None = None
    fingerprint: str = ""
    tie_breaker: Tensor | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.values.dim() != 1:
            raise ValueError(f"`values` must have shape (N,); got {tuple(self.values.shape)}.")
        for argument in ("spread", "target", "tie_breaker"):
            tensor = getattr(self, argument)
            if tensor is not None and tensor.shape != self.values.shape:
                raise ValueError(
                    f"`{argument}` must have one value an example, as `values` has, {tuple(self.values.shape)}; "
                    f"got {tuple(tensor.shape)}."
                )

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        known = self.values[~self.values.isnan()]
        parts = [f"{self.num_runs} run{'s' if self.num_runs != 1 else ''}"]
        if self.step is not None:
            parts.append(f"step {self.step}" + ("" if self.epoch is None else f", epoch {self.epoch}"))
        if self.num_nan:
            parts.append(f"{self.num_nan} NaN")
        extent = f"{known.min():.4g} to {known.max():.4g}" if len(known) else "all NaN"
        direction = "high" if self.higher_is_easier else "low"
        return f"Scores({self.name!r} of {len(self)} examples, {direction} is easy: {extent}; {'; '.join(parts)})"

    @property
    def num_nan(self) -> int:
        """Number of examples whose score is not known."""
        return int(self.values.isnan().sum())

    @property
    def ranks(self) -> Tensor:
        """Rank of each example, int64 `(N,)`: 1 is hardest, 0 not known; ties are broken as in `easiest`."""
        easiest_first = functional.rank_by_easiness(
            self.values, self.higher_is_easier, tie_breaker=self.tie_breaker, seed=self.seed
        )
        ranks = torch.zeros(len(self), dtype=torch.int64)
        ranks[easiest_first] = torch.arange(len(easiest_first), 0, -1)
        return ranks

    def easiest(self, fraction: float) -> Tensor:
        """Indices of the easiest `fraction` of all examples, int64 `(n,)`, easiest first.

        Equal values are ordered by the tie breaker, then by a draw from `seed`, never by index. Examples of unknown
        score are left out.

        Raises:
            ValueError: `fraction` is not in (0, 1].
        """
        return functional.easiest(
            self.values, fraction, self.higher_is_easier, tie_breaker=self.tie_breaker, seed=self.seed
        )

    def hardest(self, fraction: float) -> Tensor:
        """Indices of the hardest `fraction` of all examples, int64 `(n,)`, hardest first: see `easiest`."""
        return functional.hardest(
            self.values, fraction, self.higher_is_easier, tie_breaker=self.tie_breaker, seed=self.seed
        )

    def to_pandas(self) -> "pd.DataFrame":
        """Table with index "example" and columns score, spread, target and rank (1 is hardest, <NA> not known).

        `attrs` of the table say the score's name, direction, runs and checkpoint.

        Raises:
            ImportError: pandas is not installed.
        """
        table = to_pandas(self._columns(), index="example", caller="Scores.to_pandas()")
        about = ("name", "higher_is_easier", "num_runs", "step", "epoch", "fingerprint")
        table.attrs = {attribute: getattr(self, attribute) for attribute in about}
        return table

    def to_csv(self, path: str | Path) -> None:
        """Write columns example, score, spread, target and rank; empty where not known. Needs no pandas.

        Numbers are written in as many digits as bring back the same float.
        """
        write_csv(path, self._columns())

    def to_parquet(self, path: str | Path) -> None:
        """Write the table of `to_pandas` as Parquet.

        Raises:
            ImportError: pandas or pyarrow is not installed.
        """
        for package in ("pandas", "pyarrow"):
            import_for_tables(package, "Scores.to_parquet()")
        self.to_pandas().to_parquet(path, engine="pyarrow")

    def _columns(self) -> Columns:
        ranks = self.ranks.numpy()
        return {
            "example": np.arange(len(self)),
            "score": self.values.numpy(),
            "spread": self.spread.numpy(),
            "target": self.target.numpy(),
            "rank": np.ma.masked_array(ranks, mask=ranks == 0),
        }

    def warn_of_nan(self, stacklevel: int = 2) -> None:
        """Say by a `UserWarning` how many examples have no score, if any."""
        if self.num_nan:
            warnings.warn(
                f"{self.num_nan} of {len(self)} examples have no {self.name} (NaN in some run): "
                "they are in neither easiest() nor hardest().",
                stacklevel=stacklevel + 1,
            )


# ------------------------------------------------------------------------------------------------- scores built in


def _mean(values: Tensor) -> Tensor:
    return values.mean(0)


def _count(correct: Tensor) -> Tensor:
    counts = functional.count_easiness(correct == 1)
    return counts.masked_fill(correct.isnan().any(0), torch.nan)


def _forgetting_events(correct: Tensor) -> Tensor:
    # where an example was not seen nothing was forgotten: the state in which it was seen last goes on
    seen = ~correct.isnan()
    checkpoint = torch.arange(len(correct)).unsqueeze(1)
    last_seen = torch.where(seen, checkpoint, 0).cummax(0).values
    events = functional.forgetting_events(correct.gather(0, last_seen) == 1)
    return events.float().masked_fill(~seen.any(0), torch.nan)


def _correctness(correct: Tensor) -> Tensor:
    return correct.nanmean(0)


_EASINESS_2018 = "Empirical Study of Easy and Hard Examples in CNN Training, 2018, eq. 1"
_EASINESS_2019 = "Empirical Study of Easy and Hard Examples in CNN Training (Kishida and Nakayama, 2019), eq. 1"
_SAMPLE_EASINESS = "Medium Samples Are All You Need: Sample Easiness-Aware Learning for Neural Networks, eq. 1"
_MARGIN = "Identifying Mislabeled Data using the Area Under the Margin Ranking (Pleiss et al., 2020)"
_EL2N = "Deep Learning on a Data Diet: Finding Important Examples Early in Training (Paul et al., 2021)"
_FORGETTING = "An Empirical Study of Example Forgetting during Deep Neural Network Learning (Toneva et al., 2019)"
_DATA_MAPS = "Dataset Cartography: Mapping and Diagnosing Datasets with Training Dynamics (Swayamdipta et al., 2020)"

for _definition in (
    ScoreDefinition(
        name="mean_loss",
        function=functional.mean_loss_easiness,
        fields=("loss",),
        per="checkpoint",
        higher_is_easier=False,
        range=(-inf, inf),  # from 0 for cross-entropy, but a loss of the user's may be anything
        paper=_EASINESS_2019,
        doc="Mean loss over runs.",
    ),
    ScoreDefinition(
        name="count",
        function=_count,
        fields=("correct",),
        per="checkpoint",
        higher_is_easier=True,
        range=(0.0, 1.0),
        paper=_EASINESS_2018,
        doc="Number of runs that classify the example correctly, over the largest such number.",
    ),
    ScoreDefinition(
        name="margin",
        function=_mean,
        fields=("margin",),
        per="checkpoint",
        higher_is_easier=True,
        range=(-inf, inf),
        paper=_MARGIN,
        doc="Mean over runs of the target logit less the largest other logit.",
    ),
    ScoreDefinition(
        name="sample_easiness",
        function=_mean,
        fields=("sample_easiness",),
        per="checkpoint",
        higher_is_easier=True,
        range=(0.0, 1.0),
        paper=_SAMPLE_EASINESS,
        doc="Mean over runs of the probability that the true class wins against each other class under noise.",
    ),
    ScoreDefinition(
        name="el2n",
        function=_mean,
        fields=("el2n",),
        per="checkpoint",
        higher_is_easier=False,
        range=(0.0, sqrt(2.0)),
        paper=_EL2N,
        doc="Mean over runs of the distance of the predicted probabilities from the one-hot label.",
    ),
    ScoreDefinition(
        name="area_under_margin",
        function=functional.area_under_margin,
        fields=("margin",),
        per="trajectory",
        higher_is_easier=True,
        range=(-inf, inf),
        paper=_MARGIN,
        doc="Mean margin over the checkpoints at which the example was seen.",
    ),
    ScoreDefinition(
        name="forgetting_events",
        function=_forgetting_events,
        fields=("correct",),
        per="trajectory",
        higher_is_easier=False,
        range=(0.0, inf),
        paper=_FORGETTING,
        doc="Times that the example goes from correct to wrong; one that is never correct counts every checkpoint.",
    ),
    ScoreDefinition(
        name="confidence",
        function=functional.confidence,
        fields=("loss",),
        per="trajectory",
        higher_is_easier=True,
        range=(0.0, 1.0),
        paper=_DATA_MAPS,
        doc="Mean probability of the true class over the checkpoints at which the example was seen.",
        loss="cross_entropy",
    ),
    ScoreDefinition(
        name="variability",
        function=functional.variability,
        fields=("loss",),
        per="trajectory",
        higher_is_easier=False,
        range=(0.0, 0.5),
        paper=_DATA_MAPS,
        doc="Standard deviation of the probability of the true class over checkpoints; high is ambiguous, not hard.",
        loss="cross_entropy",
        ranks_difficulty=False,
    ),
    ScoreDefinition(
        name="correctness",
        function=_correctness,
        fields=("correct",),
        per="trajectory",
        higher_is_easier=True,
        range=(0.0, 1.0),
        paper=_DATA_MAPS,
        doc="Share of the checkpoints at which the example was seen that classify it correctly.",
    ),
):
    register_score(_definition)
