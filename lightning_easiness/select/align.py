"""`AlignPrune`: leaves out what does not learn as examples with right labels do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.functional import _checks as check
from lightning_easiness.functional.dynamic import check_left_out
from lightning_easiness.functional.easiness import round_half_up
from lightning_easiness.select.base import TIMES_TRAINED, Needs, Selected, SelectionState
from lightning_easiness.select.checks import checked_indices
from lightning_easiness.select.following import FollowsTraining
from lightning_easiness.select.static import FLAG_SOME

_FEWEST = 3  # losses of a course
_UNKNOWN = f"{FLAG_SOME}, and indices of examples whose labels are right need no rule"
_HOW = "give the indices of examples whose labels are right, or find_label_issues(record), of which the others count"


class AlignPrune(FollowsTraining):
    """Leaves out the share of the examples whose losses go least with those of a part that is known to be clean.

    For data with wrong labels, where rules that train on what is hard train on those. "Beyond Loss Values: Robust
    Dynamic Pruning via Loss Trajectory Alignment" (Qin et al., 2026): the correlation of an example's last losses with
    the mean course of a small clean part says whether it is learnt as that is. Here the rule is the score alone, with
    an exact share; the paper puts the score in the place of the loss in other rules.

    Losses are those of the training forward, through the Trainer's EasinessCallback, which is required; in epochs that
    do not train on an example its course has a hole. An example with fewer than three losses in the window, or whose
    losses do not change, is kept, so that what was left out for long comes back. It keeps 4 bytes per epoch of the
    window and example, N x 10 x 4, in memory and in Lightning's checkpoints: 51 MB for 1.28 million.

    Measured on small networks (docs/train-less.md), with what `find_label_issues` does not flag as the clean
    part, it beats its control only in long trainings that memorise wrong labels, and once fell 12 points below it; to
    leave out what is flagged, with `Keep`, is as good there or better.

    Args:
        share: Fraction of all examples to leave out, in [0, 1).
        clean: The examples whose labels are right: indices into the whole data set or a bool mask `(N,)`, some hundreds
            are enough; or label issues, as `find_label_issues(record)` returns them, of which those not flagged count.
        window: Epochs of a course, at least 3.
        early_epochs: Epochs on everything at the beginning: a whole number, or a fraction of all, as 0.125; three at
            least are, in any case.
        final_epochs: The same at the end.
        seed: Seed of the draws among equals.

    Raises:
        TypeError: If `clean` is none of these.
        ValueError: If an argument is out of range, no example is clean, or the label issues are of a rule that could
            not tell whether labels are wrong. When training starts: `final_epochs`, or a
            fraction, without max_epochs; nothing is ever left out; the share leaves no batch; or the label issues are
            of another data set.

    Example:
        >>> from lightning_easiness import SelectionState
        >>> rule = AlignPrune(0.5, clean=[0])
        >>> for epoch, loss in enumerate([[3.0, 1.0, 2.5, 2.0], [2.0, 2.0, 2.0, 2.1], [1.0, 3.0, 1.5, 2.0]], 1):
        ...     observed = {"loss": torch.tensor(loss), "times_trained": torch.full((4,), epoch)}
        ...     kept = rule.select(SelectionState(4, epoch=epoch, observed=observed))
        >>> kept
        tensor([0, 2])
    """

    needs = Needs(every="epoch", fields=("loss", TIMES_TRAINED), online=True)

    def __init__(
        self,
        share: float = 0.3,
        *,
        clean: Any = None,
        window: int = 10,
        early_epochs: float = 0,
        final_epochs: float = 0,
        seed: int = 0,
    ) -> None:
        check_left_out("AlignPrune", share)
        check.at_least("AlignPrune", "window", window, least=_FEWEST)
        self.set_schedule(early_epochs, final_epochs)
        self.share, self.window, self.seed = share, window, seed
        self._clean, self._identity = _given_part(clean)
        self.forget()

    @override
    def forget(self) -> None:
        super().forget()
        self._courses = torch.empty(0, 0)  # (epochs, N), the latest last, NaN where an epoch did not train on it
        self._is_clean: Tensor | None = None  # bool (N,)

    @override
    def start(self, num_examples: int) -> None:
        self._courses = torch.empty(0, num_examples)

    @override
    def take_in(self, observed: Mapping[str, Tensor], is_old: Tensor) -> None:
        losses = observed["loss"].float()
        losses = losses.masked_fill(is_old | losses.isinf(), torch.nan)
        self._courses = torch.cat([self._courses[-self.window + 1 :], losses.unsqueeze(0)])

    @override
    def select(self, state: SelectionState) -> Tensor | Selected:
        if self._is_clean is None or len(self._is_clean) != state.num_examples:
            self._is_clean = self._clean_part(state)
        return super().select(state)

    @property
    @override
    def least_early(self) -> int:
        return _FEWEST

    @override
    def is_on_everything(self, state: SelectionState) -> bool:
        return super().is_on_everything(state) or len(self._courses) < _FEWEST

    @override
    def select_part(self, state: SelectionState) -> Tensor:
        score = functional.alignment(self._courses, self._courses[:, self._is_clean].nanmean(1))
        return functional.most_aligned(score, self.share, generator=state.generator())

    def _clean_part(self, state: SelectionState) -> Tensor:
        """Return which of the examples at hand are clean, bool (N,); raise a ValueError where none is."""
        whole, owner = state.whole or state, "The `clean` part of AlignPrune"
        if self._identity is not None:
            way = "find the label issues of this data set, or give indices."
            self._identity.check_same(whole.identity, owner, "the data set", way)
        is_clean = torch.zeros(whole.num_examples, dtype=torch.bool)
        is_clean[checked_indices(owner, self._clean, whole.num_examples)] = True
        if state.examples is not None:
            is_clean = is_clean[state.examples]
        if not bool(is_clean.any()):
            raise ValueError(f"{owner} is held out of this run: give examples of all of the data.")
        return is_clean

    @override
    def fewest(self, num_examples: int) -> int:
        return num_examples - min(round_half_up(self.share, num_examples), num_examples - 1)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"courses": self._courses, "times": self._times} if len(self._courses) else {}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._courses, self._times = state["courses"].cpu(), state["times"].cpu()


def _given_part(clean: Any) -> tuple[Tensor, DataIdentity | None]:
    """Return the clean part that was given, indices or a mask, and the data set that it was taken from, if known."""
    if clean is None:
        check.refuse("AlignPrune", "clean", "be given", None, _HOW)
    part = getattr(clean, "unflagged", clean)
    try:
        given = torch.as_tensor(part).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        check.refuse("AlignPrune", "clean", "be indices or a mask", type(clean).__name__, _HOW, error=TypeError)
    if not (given.any() if given.dtype == torch.bool else len(given)):
        check.refuse("AlignPrune", "clean", "hold an example", "none", _HOW)
    if getattr(clean, "cannot_tell", False):
        got = f"none of a rule ({clean.rule}) that cannot tell, for which all labels would be right"
        check.refuse("AlignPrune", "clean", "be label issues of which some are flagged", got, _UNKNOWN)
    identity = getattr(clean, "identity", None)
    return given, identity if isinstance(identity, DataIdentity) else None
