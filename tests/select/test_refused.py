"""What a selected fit refuses, each in one sentence and before the first training step where it can be known."""

from __future__ import annotations

import re
import signal
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from lightning_easiness import Ablation, EasinessDataModule, Keep, Selected, Selection, SelectionState
from lightning_easiness.data.subset import known_identity
from tests.selecting import (
    Base,
    HighestLoss,
    IndexedBase,
    IndexedPoints,
    Listed,
    ListsTargets,
    Sizes,
    Traces,
    over,
    refusal,
    scores,
)
from tests.small import Points, loader, trainer

pytestmark = pytest.mark.filterwarnings("ignore:.* keeps no example of class")


class Wholes(BatchSampler):
    """A batch sampler of the user's own, of whole batches only."""

    def for_selection(self, selected: Any) -> Wholes:
        return Wholes(SequentialSampler(selected), 8, drop_last=True)


class Named(IndexedPoints):
    """Its labels are names."""

    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return x, f"class {y}"


class Odd(IndexedPoints):
    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return {"pixels": x, "fine": y}


class LastLabel(Selection):
    """Another label for the very last example only, which comes in the last batch."""

    def select(self, state: SelectionState) -> Selected:
        last = torch.tensor(state.num_examples - 1)
        return Selected(
            torch.arange(state.num_examples), labels=torch.full((state.num_examples,), -1).index_fill(0, last, 0)
        )


LESS_THAN_A_BATCH = (
    "Keep keeps {} of 53 examples, but with drop_last=True an epoch of 1 process takes 8 at least; keep more, or set"
    " drop_last=False or a smaller batch_size."
)
NOT_DRAWN = "Keep keeps no example that the loader's {} draws; select from its examples, or drop the sampler."
UNKNOWN = (
    "EasinessDataModule cannot tell what {} would draw from a part of the data set; give it a method"
    " `for_selection(selected)` that returns a sampler of positions 0 to len(selected) - 1 (`selected.indices` are"
    " their examples), or use shuffle=True."
)
NO_BATCH = (
    "The {1} examples that {0} keeps give no batch with the loader's sampler, batch_size and drop_last; keep more, or"
    " set drop_last=False or a smaller batch_size."
)
REPLACE_FN = "; give the selection replace_fn, a function that takes an item and a label."
FIRST_20_WEIGH_NOTHING = (torch.arange(53) >= 20).float()

# name -> (the datamodule or loader, the selection), the error and its whole message
BAD: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "an index twice": (
        Base,
        Keep([1, 2, 1]),
        ValueError,
        "Keep keeps example 1 more than once; drop repeats with .unique().",
    ),
    "what topk returns, for each epoch": (
        Base,
        Listed(torch.rand(53).topk(20)),
        TypeError,
        (
            "Listed must choose by indices (n,) or a bool mask (53,); got topk: let select() return a tensor, of"
            " topk(...) and sort(...) the second result."
        ),
    ),
    "less than a batch": (lambda: Base(drop_last=True), Keep(range(7)), ValueError, LESS_THAN_A_BATCH.format(7)),
    "less than a batch of the sampler's": (
        lambda: over(SubsetRandomSampler(range(40)), drop_last=True),
        Keep(range(36, 53)),
        ValueError,
        LESS_THAN_A_BATCH.format(4),
    ),
    "scores of fewer": (
        Base,
        Ablation(scores(40), 0.1),
        ValueError,
        (
            "The `scores` of Ablation and the data set are not of the same data: the first has 40 examples and the"
            " second 53, so an index no longer names the same example: give scores of this data set, or"
            " check_target=False if it lists other labels than it hands out."
        ),
    ),
    "two of them": (
        lambda: EasinessDataModule(EasinessDataModule(Base(), Keep(range(20))), Keep(range(5))),
        None,
        TypeError,
        (
            "EasinessDataModule cannot select from what another EasinessDataModule has selected; write one Selection"
            " whose select() does both, and give it to one EasinessDataModule."
        ),
    ),
    "nothing of the sampler's subset": (
        lambda: over(SubsetRandomSampler(range(40)), drop_last=True),
        Keep(range(41, 53)),
        ValueError,
        NOT_DRAWN.format("SubsetRandomSampler"),
    ),
    "nothing that has a weight": (
        lambda: over(WeightedRandomSampler(FIRST_20_WEIGH_NOTHING, 53)),
        Keep(range(20)),
        ValueError,
        NOT_DRAWN.format("WeightedRandomSampler"),
    ),
    "a sampler of few draws": (
        lambda: over(RandomSampler(range(53), num_samples=16), drop_last=True),
        Keep(range(10)),
        ValueError,
        NO_BATCH.format("Keep", 10),
    ),
    "an unknown sampler, needed later": (
        lambda: over([*range(53)]),
        Sizes([53, 20]),
        TypeError,
        UNKNOWN.format("list"),
    ),
    "an unknown batch sampler": (
        lambda: DataLoader(IndexedPoints(), batch_sampler=[(0, 1), (2, 3)]),
        Sizes([53, 20]),
        TypeError,
        UNKNOWN.format("list"),
    ),
    "labels that are names": (
        lambda: loader(Named(), shuffle=False),
        LastLabel(),
        TypeError,
        f"A label of type str cannot be replaced by a class{REPLACE_FN}",
    ),
    "labels that cannot be found": (
        lambda: loader(Odd(), shuffle=False),
        LastLabel(),
        TypeError,
        (
            "The label in a dict cannot be found: items must be (x, label, ...) or mappings with the"
            f" usual keys{REPLACE_FN}"
        ),
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_an_error_before_training(case: str) -> None:
    make, selection, kind, message = BAD[case]
    assert refusal(kind, make(), selection) == message


def test_bad_arguments() -> None:
    with pytest.raises(TypeError) as error:
        EasinessDataModule([loader()])  # type: ignore[arg-type]
    assert str(error.value) == (
        "The `datamodule` of EasinessDataModule must be a LightningDataModule or the train DataLoader; got list."
    )
    with pytest.raises(TypeError) as error:
        EasinessDataModule(Base(), val_dataloaders=loader())
    assert str(error.value) == (
        "EasinessDataModule takes `val_dataloaders` beside a train DataLoader; Base has its own val_dataloader()."
    )


def test_scores_of_another_data_set_of_the_same_size() -> None:
    rule = Ablation(scores(target=Points(53, seed=2).y), 0.1)
    message = "The `scores` of Ablation and the data set are not of the same data: example"
    assert refusal(ValueError, ListsTargets(), rule).startswith(message)
    data = EasinessDataModule(ListsTargets(), rule, check_target=False)
    trainer(max_epochs=1, limit_train_batches=0).fit(Traces(), datamodule=data)


def test_scores_of_other_targets_and_of_another_part_of_the_source() -> None:
    """Also where targets are no classes, by the same rule as for records."""
    draw = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    whole = TensorDataset(draw, draw[:, 0])
    part, other = Subset(whole, range(40)), Subset(whole, range(20, 60))
    known = known_identity(part)
    scored = scores(40, digest=known.digest)
    here = "The `scores` of Ablation and the data set are not of the same data: example 0"
    for given, how in (
        (scored, "has another target in the first than in the second (40 of 40 differ)"),
        (scores(40, source_index=known.source_index), "is item 0 of its source in the first and 20 in the second"),
    ):
        rule = Ablation(given, 0.1)
        assert len(list(EasinessDataModule(loader(part), rule).train_dataloader())) == 5
        with pytest.raises(ValueError, match=re.escape(f"{here} {how}")):
            EasinessDataModule(loader(other), rule).train_dataloader()
        EasinessDataModule(loader(other), rule, check_target=False).train_dataloader()


@pytest.mark.filterwarnings("default:.* keeps no example of class")
def test_a_class_that_is_lost_is_named() -> None:
    target = torch.zeros(53, dtype=torch.int64)
    target[50:] = 2
    rule = Ablation(scores(target=target), 0.2, remove="hard", sampling="top")
    with pytest.warns(UserWarning, match="Ablation keeps no example of class 2, so that cannot be learnt"):
        EasinessDataModule(loader(), rule, check_target=False).train_dataloader()


def test_a_loader_before_the_fit_when_the_rule_needs_the_model() -> None:
    with pytest.raises(RuntimeError, match=r"HighestLoss chooses by the model's outputs"):
        EasinessDataModule(loader(), HighestLoss(0.5)).train_dataloader()


def test_a_batch_sampler_that_gives_no_batch_later_is_an_error_and_no_early_end() -> None:
    module, made = Traces(), trainer(max_epochs=3)
    batches = Wholes(SequentialSampler(range(53)), 8, drop_last=True)
    data = EasinessDataModule(DataLoader(IndexedPoints(), batch_sampler=batches), Sizes([53, 4], minimum=4))
    with pytest.raises(ValueError, match="give no batch") as error:
        made.fit(module, datamodule=data)
    assert str(error.value) == NO_BATCH.format("Sizes", 4)
    assert module.lengths(2) == [48, 0]
    assert made.reload_dataloaders_every_n_epochs == 0


class FailsLater(Sizes):
    """Raises an error for the second epoch, and keeps what the Trainer's value is then."""

    during: Any = None

    def __init__(self, error: BaseException) -> None:
        super().__init__([20])
        self.error = error

    def check(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def select(self, state: SelectionState) -> Tensor:
        if state.epoch:
            self.during = self.trainer.reload_dataloaders_every_n_epochs
            raise self.error
        return super().select(state)


@pytest.mark.parametrize("kind", [ArithmeticError, KeyboardInterrupt])
def test_the_trainers_own_value_is_given_back_after_an_error(kind: type[BaseException]) -> None:
    rule = FailsLater(kind("on purpose"))
    made = trainer(reload_dataloaders_every_n_epochs=2, max_epochs=9)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises((kind, SystemExit)):
            made.fit(Traces(), datamodule=EasinessDataModule(IndexedBase(), rule))
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning ignores it from there on
    assert rule.during == 1
    assert made.reload_dataloaders_every_n_epochs == 2
