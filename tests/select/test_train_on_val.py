"""Training on the validation examples too, to measure their easiness, is what users do by hand with a ConcatDataset."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, seed_everything
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    DistributedSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)

from lightning_easiness import Ablation, EasinessCallback, EasinessDataModule, EasinessRecord, Keep, Scores, repeat_fit
from lightning_easiness.data.merged import MergedDataset, merged_loader
from lightning_easiness.data.subset import known_target
from tests.selecting import IndexedPoints, Numbered, Traces, refusal
from tests.small import assert_identical, loader, trainer

NUM_TRAIN, NUM_VAL = 42, 11


TRAIN, VAL = Numbered(NUM_TRAIN), Numbered(NUM_VAL, first=NUM_TRAIN)
EVERYTHING = list(range(NUM_TRAIN + NUM_VAL))


class Split(LightningDataModule):
    def train_dataloader(self) -> DataLoader[Any]:
        return loader(TRAIN)

    def val_dataloader(self) -> Any:
        return loader(VAL, shuffle=False)


class ByHand(Split):
    def train_dataloader(self) -> DataLoader[Any]:
        return loader(ConcatDataset([TRAIN, VAL]))


def fitted(data: Any, *callbacks: Any) -> Traces:
    seed_everything(3, verbose=False)
    module = Traces()
    trainer(callbacks=list(callbacks)).fit(module, datamodule=data)
    return module


def merged(selection: Any = None, data: Any = None) -> EasinessDataModule:
    return EasinessDataModule(data or Split(), selection, train_on_val=True)


def test_a_fit_is_the_same_as_by_hand_to_the_bit() -> None:
    ours, theirs = fitted(merged()), fitted(ByHand())
    assert_identical(ours.state_dict(), theirs.state_dict())
    assert ours.batches == theirs.batches
    assert ours.validations == theirs.validations
    assert sorted(ours.epoch(0)) == sorted(ours.epoch(1)) == EVERYTHING


def test_the_validation_part_is_read_out_and_the_recipe_names_the_split(tmp_path: Path) -> None:
    module = fitted(merged(), EasinessCallback(tmp_path, probe="val"))
    record = EasinessRecord.load(tmp_path, "val-probe")
    module.eval()
    x = torch.stack([VAL[i][0] for i in range(NUM_VAL)])
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(module(x), VAL.y, reduction="none")
    torch.testing.assert_close(record.loss[0, -1], loss)
    assert torch.equal(record.target, VAL.y)
    (recipe,) = record.recipes
    assert recipe["train_on_val"] is True
    assert recipe["data"]["parts"] == {"train": NUM_TRAIN, "val": NUM_VAL}
    online = EasinessRecord.load(tmp_path, "train-online")
    assert torch.equal(online.count[0, -1], torch.ones(NUM_TRAIN + NUM_VAL, dtype=torch.int32))
    assert torch.equal(online.target, torch.cat([TRAIN.y, VAL.y]))


def test_runs_that_trained_on_it_are_not_averaged_with_those_that_did_not(tmp_path: Path) -> None:
    fitted(merged(), EasinessCallback(tmp_path, probe="val", run="with"))
    fitted(Split(), EasinessCallback(tmp_path, probe="val", run="without"))
    with pytest.warns(UserWarning, match=r"Left out: .*train_on_val"):
        EasinessRecord.load(tmp_path, "val-probe")


def test_a_selection_chooses_among_all_of_them() -> None:
    assert sorted(fitted(merged(Keep(range(30, 50)))).epoch(1)) == list(range(30, 50))
    loss = torch.arange(float(NUM_TRAIN + NUM_VAL))
    scores = Scores(loss, higher_is_easier=False, target=torch.cat([TRAIN.y, VAL.y]))
    kept = fitted(merged(Ablation(scores, 0.5, remove="easy", sampling="top"))).epoch(0)
    assert sorted(kept) == EVERYTHING[NUM_TRAIN + NUM_VAL - len(kept) :]


def test_repeated_runs_go_on_and_refuse_to_go_on_without_it(tmp_path: Path) -> None:
    def make(**options: Any) -> Any:
        return trainer(callbacks=[EasinessCallback(probe="val")], **options)

    record = repeat_fit(make, Traces, merged(), range(2), tmp_path, progress=False)
    assert record.series == "val-probe"
    assert record.num_examples == NUM_VAL
    again = repeat_fit(make, Traces, merged(), range(2), tmp_path, progress=False)
    assert torch.equal(again.loss, record.loss)
    with pytest.raises(ValueError, match="another recipe"):
        repeat_fit(make, Traces, Split(), range(2), tmp_path, progress=False)
    of_loader = EasinessDataModule(loader(TRAIN), val_dataloaders=loader(VAL, shuffle=False), train_on_val=True)
    assert repeat_fit(make, Traces, of_loader, [0], tmp_path / "loader", progress=False).num_examples == NUM_VAL
    assert repeat_fit(make, Traces, of_loader, [0, 1], tmp_path / "loader", progress=False).num_runs == 2


def test_a_merged_data_set_lists_what_both_list_and_has_the_attributes_of_the_first() -> None:
    parts = [TensorDataset(torch.rand(n, 2), torch.arange(n)) for n in (3, 2)]
    parts[0].classes = ["a", "b", "c"]  # type: ignore[attr-defined]
    both = MergedDataset(*parts)
    assert known_target(both).tolist() == [0, 1, 2, 0, 1]
    assert both.classes == ["a", "b", "c"]
    assert len(both) == len(pickle.loads(pickle.dumps(both))) == 5
    assert known_target(MergedDataset(parts[0], Unlisted())) is None


class Unlisted(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return torch.zeros(2), 0


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_distributed_sampler_draws_from_all_in_each_process(shuffle: bool) -> None:
    drawn = []
    for rank in range(3):
        sampler = DistributedSampler(TRAIN, num_replicas=3, rank=rank, shuffle=shuffle)
        sampler.set_epoch(4)
        made = merged_loader(loader(TRAIN, shuffle=False, sampler=sampler), loader(VAL, shuffle=False))
        drawn += [int(index) for x, _ in made for index in x[:, 8]]
    assert sorted(set(drawn)) == EVERYTHING


def train_data(make: Any) -> Any:
    """A datamodule with another train loader."""
    data = Split()
    data.train_dataloader = make  # type: ignore[method-assign]
    return data


def test_what_cannot_be_merged_is_refused_before_training() -> None:
    with pytest.raises(
        TypeError, match=r"got 2 of them: let val_dataloader\(\) return one, over a map-style data set\.$"
    ):
        merged_loader(loader(TRAIN), [loader(VAL)] * 2)
    assert "got NoneType: let val_dataloader() return one" in refusal(TypeError, merged(data=loader(TRAIN)))
    weighted = train_data(lambda: loader(TRAIN, shuffle=False, sampler=WeightedRandomSampler([1.0] * NUM_TRAIN, 9)))
    assert "cannot tell how WeightedRandomSampler would draw validation examples" in refusal(
        TypeError, merged(data=weighted)
    )
    own = type("Own", (BatchSampler,), {})(range(8), 2, False)
    by_batch = train_data(lambda: DataLoader(TRAIN, batch_sampler=own))
    assert "cannot tell how Own would draw" in refusal(TypeError, merged(data=by_batch))


def test_examples_of_both_are_refused() -> None:
    source = IndexedPoints(30)
    data = Split()
    data.train_dataloader = lambda: loader(Subset(source, range(20)))  # type: ignore[method-assign]
    data.val_dataloader = lambda: loader(Subset(source, range(17, 25)), shuffle=False)  # type: ignore[method-assign]
    assert "3 of the 8 validation examples are training examples already" in refusal(ValueError, merged(data=data))
    data.val_dataloader = lambda: loader(source, shuffle=False)  # type: ignore[method-assign]
    assert "20 of the 30 validation examples" in refusal(ValueError, merged(data=data))


def test_the_parts_of_a_random_split_are_merged() -> None:
    parts = random_split(IndexedPoints(30), [20, 10], generator=torch.Generator().manual_seed(0))
    data = Split()
    data.train_dataloader = lambda: loader(parts[0])  # type: ignore[method-assign]
    data.val_dataloader = lambda: loader(parts[1], shuffle=False)  # type: ignore[method-assign]
    assert sorted(fitted(merged(data=data)).epoch(0)) == list(range(30))


def test_without_it_the_loader_is_the_users_own() -> None:
    data = EasinessDataModule(Split())
    assert data.with_validation(made := loader(TRAIN)) is made
