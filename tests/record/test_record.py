from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.functional import extrapolate_agreement, split_half_agreement
from lightning_easiness.record.files import ArrayFile
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.record.writer import RunWriter
from tests.made_runs import (
    NUM_CLASSES,
    NUM_EXAMPLES,
    append,
    expected,
    loads_with_warnings,
    make_target,
    whole,
    write_run,
)

FIELDS = ("loss", "correct", "margin", "sample_easiness", "weakest_comparison", "el2n")


# ------------------------------------------------------------------ what was written is read


@pytest.mark.parametrize("field", FIELDS)
def test_fields_are_stacked_bit_for_bit(folder: Path, field: str) -> None:
    values = getattr(EasinessRecord.load(folder), field)
    assert (values.shape, values.dtype) == ((3, 3, NUM_EXAMPLES), expected(field).dtype)
    assert values.numpy().tobytes() == expected(field).numpy().tobytes()


def test_a_record_says_what_it_holds(folder: Path) -> None:
    record = EasinessRecord.load(str(folder))
    assert (record.num_runs, record.num_checkpoints, record.num_examples, record.num_classes) == (3, 3, 37, 5)
    assert record.runs == ["seed-0", "seed-2", "seed-10"]
    assert record.seeds == [0, 2, 10]
    assert record.steps.tolist() == [0, 120, 240]
    assert record.epochs.tolist() == [0, 1, 2]
    assert record.steps.dtype == record.epochs.dtype == record.target.dtype == torch.int64
    assert torch.equal(record.target, make_target())
    assert record.fields == FIELDS
    assert record.series == "train-probe"
    assert record.loss_name == "cross_entropy"
    assert record.fingerprint == DataIdentity(NUM_EXAMPLES, make_target()).fingerprint
    assert all("torch" in versions for versions in record.versions)
    assert repr(record) == (
        "EasinessRecord('train-probe': 3 runs, 3 checkpoints, 37 examples of 5 classes; "
        "loss, correct, margin, sample_easiness, weakest_comparison, el2n)"
    )


def test_the_only_series_is_loaded_or_else_the_train_probe(tmp_path: Path) -> None:
    write_run(tmp_path, 0, series="train-online")
    assert EasinessRecord.load(tmp_path).series == "train-online"
    write_run(tmp_path, 1, series="val-probe")
    assert EasinessRecord.load(tmp_path, runs="seed-1").series == "val-probe"
    message = f"No run in '{tmp_path}' holds the series 'train-probe': there are 'train-online', 'val-probe'."
    with pytest.raises(FileNotFoundError, match=whole(message)):
        EasinessRecord.load(tmp_path)
    write_run(tmp_path, 0)
    assert EasinessRecord.load(tmp_path / "seed-0").series == "train-probe"


def test_a_single_run_is_loaded_from_its_own_folder(folder: Path) -> None:
    record = EasinessRecord.load(folder / "seed-2")
    assert record.seeds == [2]
    assert torch.equal(record.loss, expected("loss", (2,)))


def test_some_runs_are_loaded_by_name(folder: Path) -> None:
    assert EasinessRecord.load(folder, runs=["seed-10", "seed-0", "seed-10"]).runs == ["seed-10", "seed-0"]
    assert EasinessRecord.load(folder, runs="seed-2").runs == ["seed-2"]
    message = f"`runs` names 'seed-1', which is not in '{folder}': there are 'seed-0', 'seed-2', 'seed-10'."
    with pytest.raises(ValueError, match=whole(message)):
        EasinessRecord.load(folder, runs=["seed-0", "seed-1"])


def test_a_field_at_one_checkpoint(folder: Path) -> None:
    record = EasinessRecord.load(folder)
    for checkpoint in range(-3, 3):
        assert torch.equal(record.field("margin", checkpoint), expected("margin")[:, checkpoint])
    for checkpoint in (3, -4):
        have = "the record's 3 checkpoints, 0 to 2, or -3 to -1 from the end"
        message = f"`checkpoint` must be an index of {have}; got {checkpoint}."
        for ask in (lambda at: record.field("loss", at), lambda at: record.score("mean_loss", at)):
            with pytest.raises(IndexError, match=whole(message)):
                ask(checkpoint)
    message = f"Field 'count' is not in series 'train-probe', which holds {', '.join(FIELDS)}."
    with pytest.raises(ValueError, match=whole(message)):
        _ = record.count


def test_predictions_are_stacked_and_kept_by_select_merge_and_save(tmp_path: Path) -> None:
    predictions = {}
    for seed, top in enumerate((5, 255, 300)):  # stored as bytes and as two bytes
        drawn = torch.randint(-1, top, (NUM_EXAMPLES,), generator=torch.Generator().manual_seed(seed)).short()
        predictions[seed] = drawn.index_fill(0, torch.tensor(3), top)
        write_run(tmp_path / "runs", seed, steps=(10, 20), num_classes=400, fields={"prediction": predictions[seed]})
    record = EasinessRecord.load(tmp_path / "runs")
    expected = torch.stack([torch.stack([rows] * 2) for rows in predictions.values()])
    assert (record.prediction.dtype, record.fields) == (torch.int16, ("prediction",))
    assert torch.equal(record.prediction, expected)
    assert torch.equal(record.field("prediction", -1), expected[:, -1])
    merged = EasinessRecord.merge(*(record.select_runs([run]) for run in (2, 0)))
    assert torch.equal(merged.prediction, expected[[2, 0]])
    merged.save(tmp_path / "saved")
    assert torch.equal(EasinessRecord.load(tmp_path / "saved").prediction, expected[[0, 2]])


def test_source_indices_of_a_part_are_kept_by_load_save_and_scores(tmp_path: Path) -> None:
    source = torch.randperm(60_000, generator=torch.Generator().manual_seed(0))[:NUM_EXAMPLES]
    for seed in (0, 1):
        write_run(tmp_path / "runs", seed, source_index=source)
    record = EasinessRecord.load(tmp_path / "runs")
    assert torch.equal(record.source_index, source)
    record.save(tmp_path / "saved")
    scores = EasinessRecord.load(tmp_path / "saved").score("mean_loss")
    assert torch.equal(scores.source_index, source)
    table = scores.to_pandas()
    for example in scores.hardest(0.2).tolist():
        assert table.source_index[example] == source[example]


def test_a_data_set_that_is_a_part_of_no_other_has_no_source_indices(folder: Path) -> None:
    record = EasinessRecord.load(folder)
    assert record.source_index is record.score("mean_loss").source_index is None
    assert "source_index" not in record.score("mean_loss").to_pandas()


def test_a_record_of_before_has_no_predictions_and_says_so(folder: Path) -> None:
    message = "Field 'prediction' is not in series 'train-probe', which holds "
    with pytest.raises(ValueError, match=message):
        _ = EasinessRecord.load(folder).prediction


def test_a_record_of_too_many_classes_for_predictions_says_so(tmp_path: Path) -> None:
    write_run(tmp_path, 0, num_classes=32_769)
    message = r"sample_easiness, weakest_comparison, el2n: predictions are recorded of at most 32,768 classes\.$"
    with pytest.raises(ValueError, match=message):
        _ = EasinessRecord.load(tmp_path).prediction


def test_num_classes_may_be_unknown(tmp_path: Path) -> None:
    write_run(tmp_path, 0, num_classes=None)
    assert repr(EasinessRecord.load(tmp_path)).startswith(
        "EasinessRecord('train-probe': 1 run, 3 checkpoints, 37 examples; "
    )
    write_run(tmp_path, 1)
    assert EasinessRecord.load(tmp_path).num_classes == NUM_CLASSES


def test_only_fields_that_every_checkpoint_holds_are_fields(tmp_path: Path) -> None:
    write_run(tmp_path, 0)
    write_run(tmp_path, 1, fields={"loss": torch.rand(NUM_EXAMPLES)})
    assert EasinessRecord.load(tmp_path).fields == ("loss",)


def test_checkpoints_by_step_and_epoch(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "a") as writer:
        for step, epoch in ((0, 0), (50, 0), (100, 0), (200, 2)):
            append(writer, step, epoch=epoch)
    record = EasinessRecord.load(tmp_path)
    assert record.checkpoint_at(step=100) == 2
    assert record.checkpoint_at(epoch=0) == 2
    assert record.checkpoint_at(epoch=2) == 3
    for arguments, message in (
        ({"step": 120}, "There is no checkpoint at step 120: the nearest is at step 100."),
        ({"epoch": 9}, "There is no checkpoint at epoch 9: the nearest is at epoch 2."),
        ({}, "checkpoint_at() takes either `step` or `epoch`; got step=None, epoch=None."),
        ({"step": 0, "epoch": 0}, "checkpoint_at() takes either `step` or `epoch`; got step=0, epoch=0."),
    ):
        with pytest.raises(ValueError, match=whole(message)):
            record.checkpoint_at(**arguments)


def test_loading_reads_headers_and_a_score_reads_one_file_a_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, str]] = []
    for name in ("read", "read_blocks"):
        read_field = getattr(ArrayFile, name)

        def note(self: ArrayFile, field: str, *blocks: object, read_field: Any = read_field) -> Tensor:
            read.append((self.step, field))
            return read_field(self, field, *blocks)

        monkeypatch.setattr(ArrayFile, name, note)
    record = EasinessRecord.load(folder)
    assert repr(record)
    assert set(read) == {(240, "loss"), (240, "correct")}, "of the last checkpoint, for a run that diverged"
    read.clear()
    record.score("mean_loss", checkpoint=1)
    assert read == [(120, "loss")] * 3


# ------------------------------------------------------------------ online series, NaN, targets


def test_an_online_series_counts_what_was_not_seen(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, seed, series="train-online")
    record = EasinessRecord.load(tmp_path, series="train-online")
    assert record.fields == ("loss", "correct", "margin", "count")
    unseen = record.count == 0
    assert record.count.dtype == torch.int32
    assert torch.equal(record.loss.isnan(), unseen)
    assert torch.equal(record.margin.isnan(), unseen)
    assert not record.correct[unseen].any()
    assert torch.equal(record.num_nan, unseen.sum((0, 2)))
    assert record.num_nan.shape == (3,)


def test_targets_are_what_any_run_knows(tmp_path: Path) -> None:
    for seed, target in enumerate(([0, -1, -1, -1], [-1, 1, -1, -1], [0, -1, 2, -1])):
        write_run(tmp_path, seed, num_examples=4, target=torch.tensor(target))
    record = EasinessRecord.load(tmp_path)
    assert record.target.tolist() == [0, 1, 2, -1]
    assert record.fingerprint == DataIdentity(4, torch.tensor([0, 1, 2, -1])).fingerprint


def test_missing_targets_are_unknown(folder: Path) -> None:
    path = folder / "seed-0" / "train-probe" / "targets.safetensors"
    path.unlink()
    message = f"Left out: '{path}' does not exist: copy it here again. The targets of run 'seed-0' are not known."
    assert torch.equal(loads_with_warnings(folder, message).target, make_target())
    alone = loads_with_warnings(folder / "seed-0", message)
    assert alone.target.tolist() == [-1] * NUM_EXAMPLES


# ------------------------------------------------------------------ save, merge, select


def assert_same_record(a: EasinessRecord, b: EasinessRecord) -> None:
    for name in ("runs", "seeds", "versions", "fields", "fingerprint", "num_classes", "loss_name", "series"):
        assert getattr(a, name) == getattr(b, name)
    for name in ("steps", "epochs", "target"):
        assert torch.equal(getattr(a, name), getattr(b, name))
    for name in a.fields:
        assert getattr(a, name).numpy().tobytes() == getattr(b, name).numpy().tobytes()


@pytest.mark.parametrize("series", ["train-probe", "train-online"])
def test_a_saved_record_is_the_same_record(tmp_path: Path, series: str) -> None:
    write_run(tmp_path / "runs", 0, series=series)
    write_run(tmp_path / "runs", 1, series=series, complete=False)
    record = EasinessRecord.load(tmp_path / "runs", series)
    record.save(tmp_path / "copy")
    assert_same_record(EasinessRecord.load(tmp_path / "copy", series), record)
    with pytest.raises(FileExistsError, match=r"^Run 'seed-0' in .* already holds checkpoints"):
        record.save(tmp_path / "runs")


def test_merged_records_hold_the_runs_of_both(tmp_path: Path) -> None:
    for seed in range(4):
        write_run(tmp_path / ("a" if seed < 2 else "b"), seed)
    merged = EasinessRecord.merge(EasinessRecord.load(tmp_path / "a"), EasinessRecord.load(tmp_path / "b"))
    assert merged.seeds == [0, 1, 2, 3]
    assert torch.equal(merged.loss, expected("loss", (0, 1, 2, 3)))


def test_merging_follows_the_rule_for_stacking(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0)
    write_run(tmp_path / "b", 1, steps=(120, 360))
    records = [EasinessRecord.load(tmp_path / name) for name in "ab"]
    message = "Left out: checkpoints that some runs lack: steps 0, 240, 360."
    with pytest.warns(UserWarning, match=whole(message)) as caught:
        assert EasinessRecord.merge(*records).steps.tolist() == [120]
    assert caught[0].filename == __file__


def test_merging_runs_of_one_name_keeps_both(tmp_path: Path) -> None:
    for name in "abc":
        write_run(tmp_path / name, 0)
    message = (
        "Runs 'seed-0', 'seed-0-2' and 'seed-0-3' have the same seed 0: "
        "unless something else differs, together they are no better than one of them."
    )
    with pytest.warns(UserWarning, match=whole(message)) as caught:
        merged = EasinessRecord.merge(*(EasinessRecord.load(tmp_path / name) for name in "abc"))
    assert caught[0].filename == __file__
    assert merged.runs == ["seed-0", "seed-0-2", "seed-0-3"]


def test_runs_of_unknown_seeds_are_no_repeats(tmp_path: Path) -> None:
    for run in "ab":
        with RunWriter(tmp_path, run) as writer:
            append(writer)
    assert loads_with_warnings(tmp_path).seeds == [None, None]


def test_what_cannot_be_merged(folder: Path, tmp_path: Path) -> None:
    record = EasinessRecord.load(folder)
    write_run(tmp_path / "online", 0, series="train-online")
    online = EasinessRecord.load(tmp_path / "online", "train-online")
    for records, message in (
        ((), "merge() takes at least one record; got none."),
        (
            (record, online),
            "merge() takes records of one series; got 'train-probe', 'train-online': load them with the same `series`.",
        ),
        ((record, record), f"A record takes each run once; got run 'seed-0' in '{folder}/seed-0' twice."),
    ):
        with pytest.raises(ValueError, match=whole(message)):
            EasinessRecord.merge(*records)


def test_runs_are_selected_by_index_and_name(folder: Path) -> None:
    record = EasinessRecord.load(folder)
    assert record.select_runs([-1, "seed-0"]).runs == ["seed-10", "seed-0"]
    assert torch.equal(record.select_runs([1]).loss, expected("loss", (2,)))
    for runs, message in (
        ([3], "`runs` names 3: this record holds seed-0, seed-2, seed-10."),
        (["seed-1"], "`runs` names 'seed-1': this record holds seed-0, seed-2, seed-10."),
        ([], "`runs` must name at least one of seed-0, seed-2, seed-10; got none."),
    ):
        with pytest.raises(ValueError, match=whole(message)):
            record.select_runs(runs)


# ------------------------------------------------------------------ are the seeds enough?


@pytest.mark.parametrize("num_runs", [2, 4, 5])
def test_agreement_is_measured_on_halves_and_extrapolated(tmp_path: Path, num_runs: int) -> None:
    common = torch.rand(NUM_EXAMPLES)
    for seed in range(num_runs):
        noise = torch.rand(NUM_EXAMPLES, generator=torch.Generator().manual_seed(seed))
        write_run(tmp_path, seed, steps=(120,), fields={"loss": common + noise})
    record = EasinessRecord.load(tmp_path)
    agreement = record.agreement(factor=(2, 4), seed=5, num_splits=10)
    half = split_half_agreement(record.field("loss", -1), seed=5, num_splits=10)
    assert agreement.half_agreement == pytest.approx(float(half))
    of_half = num_runs / (num_runs // 2)
    assert agreement.full_agreement == pytest.approx(float(extrapolate_agreement(half, of_half)))
    assert agreement.extrapolated == {
        2 * num_runs: pytest.approx(float(extrapolate_agreement(half, 2 * of_half))),
        4 * num_runs: pytest.approx(float(extrapolate_agreement(half, 4 * of_half))),
    }
    lines = str(agreement).splitlines()
    assert lines[0] == "Agreement of mean_loss with the same number of other runs (Spearman)"
    assert [int(line.split()[0]) for line in lines[2:]] == [num_runs // 2, num_runs, 2 * num_runs, 4 * num_runs]


def test_agreement_needs_two_runs(folder: Path) -> None:
    message = "agreement() needs at least 2 runs; got 1: repeat the training with other seeds."
    with pytest.raises(ValueError, match=whole(message)):
        EasinessRecord.load(folder).select_runs([0]).agreement()
