"""Contract 9: errors say what to do, come before the first training step where that can be, and cost no checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, default_collate

from lightning_easiness import EasinessCallback, EasinessDataModule, EasinessRecord, Scores, register_score, repeat_fit
from tests.refusing import Counts, refused
from tests.small import Net, Points, loader, trainer

# ------------------------------------------------------------------------------------------- data, modules, losses


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[Any]:
        return (Points()[index] for index in range(53))


class Batches:
    """An iterable of batches, which Lightning takes for a loader."""

    def __iter__(self) -> Iterator[Any]:
        return iter([default_collate([Points()[0], Points()[1]])])


class AnyKey(Points):
    """Takes digits for an index, and negative ones."""

    def __len__(self) -> int:
        return 53

    def __getitem__(self, key: Any) -> tuple[Tensor, int]:
        return super().__getitem__(int(key))


def keyed(*keys: Any) -> DataLoader:
    return DataLoader(AnyKey(60), batch_size=len(keys), sampler=keys)  # type: ignore[arg-type]


class WholeBatches(Points):
    """Hands out whole batches by one index."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        return self.x[index * 8 : index * 8 + 8], self.y[index * 8 : index * 8 + 8]


class Floats(Points):
    def __getitem__(self, index: int) -> Any:
        return self.x[index], self.x[index, 0]


def wrong_target(target: int, example: int = 17) -> DataLoader:
    """Example 17 is not in the batch that is tried before training, 6 is."""
    points = Points()
    points.y[example] = target
    return loader(points)


class TwoValLoaders(Counts):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:  # type: ignore[override]
        pass


class Lenient(Counts):
    """Trains on in spite of impossible targets, as a user's own loss may do."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step((batch[0], batch[1].clamp(0, 3)), batch_idx)


class Halves(Counts):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[::2]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step((batch[0], batch[1][::2]), batch_idx)


class HalvesOfMore(Halves):
    """Has no child that holds all parameters, whose output would fit."""

    def __init__(self) -> None:
        super().__init__()
        self.more = nn.Linear(1, 1)


class Regresses(Counts):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.steps += 1
        return (self(batch[0])[:, 0] - batch[1]).square().mean()


class TwoParts(LightningModule):
    """Has no forward and two parts that may be meant."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.other, self.steps = nn.Linear(8, 4), nn.Linear(8, 4), 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.steps += 1
        return nn.functional.cross_entropy(self.other(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class TakesIterator(Counts):
    def training_step(self, dataloader_iter: Any) -> Tensor:  # type: ignore[override]
        batch, _, _ = next(dataloader_iter)
        return super().training_step(batch, 0)


def mean_loss(logits: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, target)


# --------------------------------------------------------------------------------------------------------- the cases


class Refused(NamedTuple):
    message: str
    data: Callable[[], Any] = loader
    options: dict[str, Any] = {}  # noqa: RUF012
    error: type[Exception] = TypeError
    module: Callable[[], Any] = Counts
    val: Callable[[], Any] = lambda: None
    steps: int = 0
    fit: dict[str, Any] = {}  # noqa: RUF012


AT_START: dict[str, Any] = {"at_steps": (0,)}
ONLINE: dict[str, Any] = {"probe": None}
EVALUATION: dict[str, Any] = {"online": False, "every_n_epochs": 1}

STREAM = (
    "The loader reads Stream, an IterableDataset, whose examples have no index; use a map-style data set (with"
    " __getitem__ and __len__), or pass online=False and probe=DataLoader(...)."
)
SEVERAL = (
    "EasinessCallback observes one data set, but the {} loaders are a {}, so an index names no example; pass"
    " online=False and the loader to observe, probe=DataLoader(...)."
)
NO_VALIDATION = (
    "EasinessCallback(probe='val') found no validation loader when training started; give the Trainer one, or pass"
    " the loader itself, probe=DataLoader(...)."
)
NO_INTEGERS = (
    "The train loader's sampler yields keys that are not integers ({}), so examples have no index; give"
    " EasinessCallback online=False and a `probe` loader with integer indices."
)
NO_EXAMPLE = (
    "The train loader's sampler asks for example {}, but examples are numbered 0 to 52; fix the sampler, or give"
    " EasinessCallback online=False."
)
WHOLE_BATCHES = (
    "The loader asks WholeBatches for one index at a time and does not batch (batch_size=None), so an index is that of"
    " a batch, not of an example; use a data set of single examples with a batch size, a sampler that yields index"
    " lists, or pass online=False and probe=DataLoader(...)."
)
TARGETS = (
    "The targets of 1 examples are outside the model's classes 0 to 3, the first is example 17 with target {}: fix"
    " them, or pass a batch_fn that maps them, to -100 where there is no label."
)
FIRST_TARGETS = (
    "The targets of 1 of the first batch's 8 examples are outside the model's classes 0 to 3, the first is example 6"
    " with target {0}: fix them, or, if {0} means that there is no label, pass batch_fn=lambda batch: (batch[0],"
    " batch[1].masked_fill(batch[1] == {0}, -100))."
)
OUTPUT_SIZE = (
    "The model's output has the shape (4, 4), but the batch holds 8 examples, so losses cannot be matched to"
    " examples; if the module drops or merges examples in training, pass online=False, and if the logits are"
    " elsewhere, `module` or `logits_fn`."
)
TARGET_SIZE = (
    "The targets of a batch have the shape (7,), but the loader put 8 examples into it, so targets cannot be matched to"
    " examples; if the collate function drops or merges examples, pass online=False and probe=DataLoader(...), and if"
    " the targets are elsewhere, `batch_fn`."
)
NO_PAIR = (
    "EasinessCallback cannot tell inputs from targets in {}; pass batch_fn, a function that takes the batch and returns"
    " (inputs, targets)."
)
NO_CLASSES = (
    "EasinessCallback does not know what output torch.float32 (8, 4) and targets torch.float32 (8,) are: pass logits_fn"
    " or batch_fn to find logits (B, classes) and class indices (B,), or, for another task, loss_fn=lambda output,"
    " target: losses, with one loss per example."
)
COLLATED: dict[str, Any] = {
    "a Tensor": lambda examples: default_collate(examples)[0],
    "a list of 1 item": lambda examples: [default_collate(examples)],
    "a dict with the keys ['left']": lambda examples: {"left": default_collate(examples)[0]},
}

CASES: dict[str, Refused] = {
    **{
        f"{name}, {options}": Refused(message, data, options)
        for options in ({}, EVALUATION)
        for name, message, data in (
            ("a stream", STREAM, lambda: DataLoader(Stream(), batch_size=8)),
            ("batches", WHOLE_BATCHES, lambda: DataLoader(WholeBatches(), batch_size=None, shuffle=True)),
        )
    },
    "a stream to evaluate": Refused(STREAM, options={"probe": DataLoader(Stream(), batch_size=8)}),
    "a stream of validation": Refused(STREAM, options={"probe": "val"}, val=lambda: DataLoader(Stream(), batch_size=8)),
    **{
        f"several train loaders in a {type(data).__name__}, {options}": Refused(
            SEVERAL.format("train", type(data).__name__), lambda data=data: data, options
        )
        for data in ({"a": loader(), "b": loader()}, [loader(), loader()])
        for options in ({}, EVALUATION)
    },
    # its batches are lists of one batch, while the evaluation pass's would be batches
    "a list of one train loader": Refused(SEVERAL.format("train", "list"), lambda: [loader()]),
    "several validation loaders": Refused(
        SEVERAL.format("val", "list"),
        options={"probe": "val"},
        module=TwoValLoaders,
        val=lambda: [loader(shuffle=False), loader(shuffle=False)],
    ),
    "no validation loader": Refused(NO_VALIDATION, options={"probe": "val"}, error=ValueError),
    "validation that is turned off": Refused(
        NO_VALIDATION, options={"probe": "val"}, error=ValueError, val=loader, fit={"limit_val_batches": 0}
    ),
    "no DataLoader": Refused(
        "EasinessCallback follows examples through a torch DataLoader; got Batches. Return one DataLoader from"
        " train_dataloader(), or pass online=False and probe=DataLoader(...).",
        Batches,
    ),
    # digits too: as text they would be taken for other examples than the data set's
    "keys of digits": Refused(NO_INTEGERS.format("['00', '01']"), lambda: keyed("00", "01")),
    "keys of fractions": Refused(NO_INTEGERS.format("[0.5, 1.5]"), lambda: keyed(0.5, 1.5)),
    "a key below 0": Refused(NO_EXAMPLE.format(-1), lambda: keyed(0, -1), error=IndexError),
    "a key of N": Refused(NO_EXAMPLE.format(53), lambda: keyed(0, 53), error=IndexError),
    **{
        f"target {target}, {options}": Refused(
            TARGETS.format(target),
            lambda target=target: wrong_target(target),
            options,
            ValueError,
            Lenient,
            steps=0 if options is AT_START else 7,
        )
        for target in (4, -5)
        for options in (AT_START, EVALUATION, ONLINE)
    },
    **{
        f"target {target} in the first batch, {options}": Refused(
            FIRST_TARGETS.format(target), lambda target=target: wrong_target(target, 6), options, ValueError, Lenient
        )
        for target in (4, -1)
        for options in ({}, EVALUATION, ONLINE)
    },
    "outputs of another batch size": Refused(OUTPUT_SIZE, options=AT_START, error=ValueError, module=Halves),
    "outputs of another size, online": Refused(
        OUTPUT_SIZE, options=ONLINE, error=ValueError, module=HalvesOfMore, steps=1
    ),
    "targets of another batch size": Refused(
        TARGET_SIZE, lambda: loader(collate_fn=lambda examples: default_collate(examples[1:])), ONLINE, error=ValueError
    ),
    **{
        f"a batch that is {found}, {options}": Refused(
            NO_PAIR.format(found), lambda collate=collate: loader(collate_fn=collate), options
        )
        for found, collate in COLLATED.items()
        for options in ({}, {**EVALUATION, **AT_START})
    },
    "no classification": Refused(NO_CLASSES, lambda: loader(Floats()), AT_START, module=Regresses),
    "no classification, online": Refused(NO_CLASSES, lambda: loader(Floats()), ONLINE, module=Regresses),
    "an average for a loss": Refused(
        "loss_fn (mean_loss) must return one loss per example, shape (8,); got (). Use reduction='none' and average"
        " over everything but the first dimension.",
        options={**AT_START, "loss_fn": mean_loss},
        error=ValueError,
    ),
    "no forward and several children": Refused(
        "TwoParts defines no forward() and has 2 submodules with parameters (net, other); pass EasinessCallback the"
        " name of the one that returns the logits, module='...'.",
        module=TwoParts,
    ),
    "an unknown module": Refused(
        "The `module` of EasinessCallback names no submodule of TwoParts: 'head'; its submodules are 'net', 'other'.",
        options={"module": "head"},
        error=ValueError,
        module=TwoParts,
    ),
    "a module that the step never calls": Refused(
        "The training step gave EasinessCallback no output to read: it never called 'net'. Pass the name of the"
        " submodule that returns the logits, module='net', or online=False; a call of .forward() itself is not seen, so"
        " call the module, self(x).",
        options={"module": "net"},
        error=RuntimeError,
        module=TwoParts,
        steps=1,
    ),
    "a step that takes batches by itself": Refused(
        "The training_step of TakesIterator takes batches off a `dataloader_iter` by itself, so the examples of a step"
        " are unknown; give EasinessCallback online=False.",
        module=TakesIterator,
    ),
}


@pytest.mark.filterwarnings("ignore:You are using the `dataloader_iter` step flavor")
@pytest.mark.parametrize("name", CASES)
def test_refused(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    callback = EasinessCallback(tmp_path, **case.options)
    message = refused(case.error, callback, case.data(), case.val(), case.module(), case.steps, **case.fit)
    assert message == case.message
    assert not list(tmp_path.rglob("step-*"))


def test_a_logits_fn_that_fails_says_so_itself(tmp_path: Path) -> None:
    callback = EasinessCallback(tmp_path, probe=None, logits_fn=lambda output: {}["nothing"])
    assert refused(KeyError, callback, steps=1) == "'nothing'"


# -------------------------------------------------------------------------------------------------- the ways out


@pytest.mark.filterwarnings("ignore:Found `dataloader_iter` argument", "ignore:You are using the `dataloader_iter`")
@pytest.mark.parametrize(
    ("options", "data", "module", "series"),
    [
        ({"batch_fn": lambda batch: (batch[0], batch[1].clamp(0, 3))}, lambda: wrong_target(9), Lenient, "train-probe"),
        ({"online": False}, loader, TakesIterator, "train-probe"),
        ({"probe": None}, loader, Halves, "train-online"),  # the only child's output fits, and is what is observed
    ],
    ids=["targets are mapped", "no online observation", "the only child"],
)
def test_the_way_out(options: dict[str, Any], data: Any, module: Any, series: str, tmp_path: Path) -> None:
    """A named part is in tests/observe/test_evaluation_models.py."""
    trainer(callbacks=[EasinessCallback(tmp_path, **options)], max_epochs=1).fit(module(), data())
    record = EasinessRecord.load(tmp_path, series)
    assert (record.num_checkpoints, record.num_examples) == (1, 53)
    assert module is not Lenient or record.target[17] == 3


# --------------------------------------------------------------------------------------------- the data set changed


@pytest.mark.parametrize("observes", [{}, {"online": False}, {"probe": None}], ids=str)
def test_another_length_than_the_record(observes: dict[str, Any], tmp_path: Path) -> None:
    def run(**options: Any) -> EasinessCallback:
        return EasinessCallback(tmp_path, run="only", **observes, **options)

    trainer(callbacks=[run()], max_epochs=1).fit(Net(), loader())
    series = "train-online" if observes.get("online", True) else "train-probe"
    before = EasinessRecord.load(tmp_path, series=series)
    message = refused(RuntimeError, run(exist_ok=True), loader(Points(40)))
    assert message == (
        f"The data set holds 40 examples, but series '{series}' of run 'only' in '{tmp_path}' has 53, so an index no"
        " longer names the same example; keep the data set as it was, or give another one another `run` or `dirpath`."
    )
    assert torch.equal(EasinessRecord.load(tmp_path, series=series).loss, before.loss)
    # the run is free again, and is trained anew with the right data set
    trainer(callbacks=[run(exist_ok=True)], max_epochs=1).fit(Net(), loader())
    assert EasinessRecord.load(tmp_path, series=series).steps.tolist() == [7]


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create")
def test_another_length_than_a_checkpoint_of_the_trainer(tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path, filename="mid", every_n_train_steps=5, save_top_k=-1)
    callbacks = [EasinessCallback(tmp_path / "a", run="only"), keep]
    trainer(callbacks=callbacks, max_epochs=1, enable_checkpointing=True).fit(Net(), loader())
    for path in (tmp_path / "a").rglob("step-*"):
        path.unlink()  # as when the run goes on in another folder
    module, callback = Counts(), EasinessCallback(tmp_path / "a", run="only")
    begun = "^The data set holds 40 examples, but the epoch that training resumes in was begun with 53, so an index"
    with pytest.raises(ValueError, match=begun):
        trainer(callbacks=[callback], max_epochs=1).fit(module, loader(Points(40)), ckpt_path=tmp_path / "mid.ckpt")
    assert module.steps == 0


def test_a_length_that_changes_as_loaders_are_reloaded(tmp_path: Path) -> None:
    class Grows(Counts):
        def train_dataloader(self) -> DataLoader:
            return loader(Points(53 + 10 * self.current_epoch))

    module = Grows()
    callback = EasinessCallback(tmp_path, every_n_epochs=1)
    begun = "^The data set holds 63 examples, but 53 when training began, so an index no longer names the same example"
    with pytest.raises(ValueError, match=begun):
        trainer(callbacks=[callback], reload_dataloaders_every_n_epochs=1).fit(module)
    assert module.steps == 7, "none of the second epoch"
    for series in ("train-probe", "train-online"):
        assert EasinessRecord.load(tmp_path, series=series).steps.tolist() == [7]


def test_other_targets_than_the_record(tmp_path: Path) -> None:
    trainer(callbacks=[EasinessCallback(tmp_path, run="only", online=False)], max_epochs=1).fit(Counts(), loader())
    before, other = EasinessRecord.load(tmp_path).loss, Points(seed=9)
    callback = EasinessCallback(tmp_path, run="only", online=False, exist_ok=True, at_steps=(0,))
    assert refused(RuntimeError, callback, loader(other)) == (
        f"Run 'only' in '{tmp_path}' was trained by another recipe (other targets; max_epochs: 1 then, 2 now), so"
        f" exist_ok=True does not replace it: delete '{tmp_path / 'only'}', or give EasinessCallback another `run` or"
        " `dirpath`."
    )
    assert torch.equal(EasinessRecord.load(tmp_path).loss, before)


KINDS: dict[str, tuple[type[Exception], Callable[[], Any]]] = {
    "The `num_images` of EasinessCallback must be an integer >= 0; got -1.": (
        ValueError,
        lambda: EasinessCallback(num_images=-1),
    ),
    "The `num_images` of EasinessCallback must be an integer >= 0; got 'a'.": (
        ValueError,
        lambda: EasinessCallback(num_images="a"),  # type: ignore[arg-type]
    ),
    "The `reader` of EasinessDataModule must be a BatchReader or None; got 5.": (
        TypeError,
        lambda: EasinessDataModule(loader(), reader=5),  # type: ignore[arg-type]
    ),
    "The `values` of Scores must be a tensor; got list: convert it with torch.as_tensor().": (
        TypeError,
        lambda: Scores([1, 2, 3], higher_is_easier=True),  # type: ignore[arg-type]
    ),
    "The `spread` of Scores must be a tensor; got list: convert it with torch.as_tensor().": (
        TypeError,
        lambda: Scores(torch.ones(1), higher_is_easier=True, spread=[1.0]),  # type: ignore[arg-type]
    ),
    "The `higher_is_easier` of Scores must be True or False; got 'yes'.": (
        TypeError,
        lambda: Scores(torch.ones(3), higher_is_easier="yes"),  # type: ignore[arg-type]
    ),
    "register_score() takes a ScoreDefinition; got 5.": (TypeError, lambda: register_score(5)),  # type: ignore[arg-type]
    "The `seeds` of repeat_fit must be integers, one for each run; got 3: write seeds=range(3).": (
        TypeError,
        lambda: repeat_fit(trainer, Counts, loader(), seeds=3),  # type: ignore[arg-type]
    ),
}


@pytest.mark.parametrize("message", KINDS)
def test_arguments_of_another_kind_are_named_in_one_sentence(message: str) -> None:
    error, call = KINDS[message]
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
