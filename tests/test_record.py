import re
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_easiness.functional import extrapolate_agreement, split_half_agreement
from lightning_easiness.record import EasinessRecord
from lightning_easiness.store import CheckpointFile, RunWriter, checkpoint_paths, fingerprint
from tests.made_runs import NUM_CLASSES, NUM_EXAMPLES, STEPS, make_fields, make_target, whole, write_run

FIELDS = ("loss", "correct", "margin", "sample_easiness", "el2n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three complete runs of three checkpoints; the last of their names comes second in the alphabet."""
    for seed in (0, 2, 10):
        write_run(tmp_path, seed)
    return tmp_path


def expected(field: str, seeds: tuple[int, ...] = (0, 2, 10), steps: tuple[int, ...] = STEPS) -> Tensor:
    return torch.stack([torch.stack([make_fields(1000 * seed + step)[field] for step in steps]) for seed in seeds])


def loads_with_warnings(folder: Path, *messages: str, **arguments: object) -> EasinessRecord:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        record = EasinessRecord.load(folder, **arguments)
    assert [str(warning.message) for warning in caught] == list(messages)
    assert {(warning.category, warning.filename) for warning in caught} <= {(UserWarning, __file__)}
    return record


# ------------------------------------------------------------------ what was written is read


@pytest.mark.parametrize("field", FIELDS)
def test_fields_are_stacked_bit_for_bit(folder: Path, field: str) -> None:
    values = getattr(EasinessRecord.load(folder), field)
    assert values.shape == (3, 3, NUM_EXAMPLES)
    assert values.dtype == expected(field).dtype
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
    assert record.fingerprint == fingerprint(make_target(), NUM_EXAMPLES)
    assert all("torch" in versions for versions in record.versions)
    assert repr(record) == (
        "EasinessRecord('train-probe': 3 runs, 3 checkpoints, 37 examples of 5 classes; "
        "loss, correct, margin, sample_easiness, el2n)"
    )


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


@pytest.mark.parametrize("checkpoint", [0, 1, 2, -1, -2, -3])
def test_a_field_at_one_checkpoint(folder: Path, checkpoint: int) -> None:
    values = EasinessRecord.load(folder).field("margin", checkpoint)
    assert torch.equal(values, expected("margin")[:, checkpoint])


@pytest.mark.parametrize("checkpoint", [3, -4])
def test_a_checkpoint_that_is_not_there(folder: Path, checkpoint: int) -> None:
    record = EasinessRecord.load(folder)
    message = f"`checkpoint` must be in [-3, 3); got {checkpoint}: see checkpoint_at(step=...)."
    for ask in (lambda: record.field("loss", checkpoint), lambda: record.score("mean_loss", checkpoint)):
        with pytest.raises(IndexError, match=whole(message)):
            ask()


def test_a_field_that_is_not_there(folder: Path) -> None:
    record = EasinessRecord.load(folder)
    held = "which holds loss, correct, margin, sample_easiness, el2n."
    with pytest.raises(ValueError, match=whole(f"Field 'count' is not in series 'train-probe', {held}")):
        _ = record.count


def test_only_fields_that_every_checkpoint_holds_are_fields(tmp_path: Path) -> None:
    write_run(tmp_path, 0)
    write_run(tmp_path, 1, fields={"loss": torch.rand(NUM_EXAMPLES)})
    assert EasinessRecord.load(tmp_path).fields == ("loss",)


def test_checkpoints_by_step_and_epoch(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "a") as writer:
        for step, epoch in ((0, 0), (50, 0), (100, 0), (200, 2)):
            writer.append("train-probe", step=step, epoch=epoch, target=None, fields=make_fields(0), num_classes=5)
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
    read_field = CheckpointFile.read

    def note(self: CheckpointFile, field: str) -> Tensor:
        read.append((self.step, field))
        return read_field(self, field)

    monkeypatch.setattr(CheckpointFile, "read", note)
    record = EasinessRecord.load(folder)
    assert repr(record)
    assert not read
    record.score("mean_loss", checkpoint=1)
    assert read == [(120, "loss")] * 3


def test_a_single_run_stays_mapped_and_cannot_be_changed_on_disk(folder: Path) -> None:
    record = EasinessRecord.load(folder / "seed-0")
    record.field("loss", -1).zero_()
    assert torch.equal(record.field("loss", -1), expected("loss", (0,))[:, -1])


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
    assert record.fingerprint == fingerprint(torch.tensor([0, 1, 2, -1]), 4)


def test_missing_targets_are_unknown(folder: Path) -> None:
    path = folder / "seed-0" / "train-probe" / "targets.safetensors"
    path.unlink()
    message = f"Left out: '{path}' does not exist. The targets of run 'seed-0' are not known."
    assert torch.equal(loads_with_warnings(folder, message).target, make_target())
    alone = loads_with_warnings(folder / "seed-0", message)
    assert alone.target.tolist() == [-1] * NUM_EXAMPLES


# ------------------------------------------------------------------ the rule for stacking


def test_complete_runs_are_stacked_at_the_checkpoints_that_they_share(tmp_path: Path) -> None:
    write_run(tmp_path, 0, steps=(0, 120, 240))
    write_run(tmp_path, 1, steps=(120, 240, 360))
    record = loads_with_warnings(tmp_path, "Left out: checkpoints that not all runs hold: steps 0, 360.")
    assert record.steps.tolist() == [120, 240]
    assert torch.equal(record.loss, expected("loss", (0, 1), (120, 240)))


def test_an_incomplete_run_that_lacks_a_checkpoint_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, 0)
    write_run(tmp_path, 1, steps=(0, 120), complete=False)
    write_run(tmp_path, 2, steps=(0, 120, 240, 360), complete=False)
    record = loads_with_warnings(
        tmp_path,
        "Left out: Run 'seed-1' is not complete and lacks 1 of the 3 checkpoints that all complete runs share: "
        "train it to its end, or load it alone.",
    )
    assert record.runs == ["seed-0", "seed-2"]
    assert record.steps.tolist() == [0, 120, 240]


def test_where_no_run_is_complete_it_is_the_checkpoints_that_all_share(tmp_path: Path) -> None:
    write_run(tmp_path, 0, steps=(0, 120, 240), complete=False)
    write_run(tmp_path, 1, steps=(0, 120), complete=False)
    record = loads_with_warnings(tmp_path, "Left out: checkpoints that not all runs hold: step 240.")
    assert record.runs == ["seed-0", "seed-1"]
    assert record.steps.tolist() == [0, 120]


def test_runs_that_share_no_checkpoint(tmp_path: Path) -> None:
    write_run(tmp_path, 0, steps=(0, 120))
    write_run(tmp_path, 1, steps=tuple(range(1, 100)))
    message = (
        "The runs share no checkpoint ('seed-0' holds steps 0, 120; 'seed-1' holds steps 1, 2, 3, ..., 98, 99): "
        "load those that were observed at the same steps, with runs=[...]."
    )
    with pytest.raises(ValueError, match=whole(message)):
        EasinessRecord.load(tmp_path)


def test_a_run_without_the_series_is_left_out(folder: Path) -> None:
    write_run(folder, 0, series="val-probe", num_examples=8)
    RunWriter(folder, "begun").close()
    record = loads_with_warnings(
        folder,
        "Left out: Run 'begun' holds no series 'val-probe'; it holds no checkpoint yet.",
        "Left out: Run 'seed-2' holds no series 'val-probe'; it holds 'train-probe'.",
        "Left out: Run 'seed-10' holds no series 'val-probe'; it holds 'train-probe'.",
        series="val-probe",
    )
    assert record.runs == ["seed-0"]
    assert record.num_examples == 8


def test_runs_of_the_same_seed_are_warned_of(tmp_path: Path) -> None:
    write_run(tmp_path, 3, run="a")
    write_run(tmp_path, 3, run="b")
    write_run(tmp_path, 4, run="c")
    record = loads_with_warnings(
        tmp_path,
        "Runs 'a' and 'b' have the same seed 3: unless something else differs, they tell no more than one of them.",
    )
    assert record.runs == ["a", "b", "c"]


# ------------------------------------------------------------------ other data


def test_runs_of_other_data_sets_are_refused(tmp_path: Path) -> None:
    target = make_target()
    write_run(tmp_path, 0, target=torch.where(torch.arange(NUM_EXAMPLES) < 30, target, -1))
    write_run(tmp_path, 1, target=target.index_fill(0, torch.tensor([32]), -1))
    write_run(tmp_path, 2, target=target.index_fill(0, torch.tensor([32]), 0))
    write_run(tmp_path, 3, target=target.index_fill(0, torch.tensor([31]), 0))
    assert EasinessRecord.load(tmp_path, runs=["seed-0", "seed-1", "seed-2"]).num_runs == 3
    message = (
        "Runs 'seed-1' and 'seed-3' are of different data sets (example 31 is of classes 1 and 0): "
        "load those of one with runs=[...]."
    )
    with pytest.raises(ValueError, match=whole(message)):
        EasinessRecord.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_examples": 40}, "are of different data sets (37 and 40 examples): load those of one with runs=[...]."),
        ({"num_classes": 6}, "are of different data sets (5 and 6 classes): load those of one with runs=[...]."),
        (
            {"loss": "focal"},
            "recorded different losses ('cross_entropy' and 'focal'): load those of one with runs=[...].",
        ),
    ],
)
def test_runs_that_are_of_other_size_or_loss_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    write_run(tmp_path, 0)
    write_run(tmp_path, 1, steps=(1, 2), **changes)
    with pytest.raises(ValueError, match=whole(f"Runs 'seed-0' and 'seed-1' {message}")):
        EasinessRecord.load(tmp_path)


# ------------------------------------------------------------------ truncated and foreign files


@pytest.mark.parametrize("size", [0, 5, 60, 400, -1])
def test_a_truncated_checkpoint_is_left_out(folder: Path, size: int) -> None:
    path = checkpoint_paths(folder / "seed-2", "train-probe")[120]
    path.write_bytes(path.read_bytes()[:size])
    with pytest.warns(UserWarning) as caught:
        record = EasinessRecord.load(folder)
    assert record.steps.tolist() == [0, 240]
    assert record.num_runs == 3
    assert re.fullmatch(
        rf"Left out: '{re.escape(str(path))}' is truncated or not a safetensors file \(.+\): "
        r"delete it or copy it here again\.",
        str(caught[0].message),
    )
    assert str(caught[1].message) == "Left out: checkpoints that not all runs hold: step 120."
    assert len(caught) == 2


def test_a_checkpoint_of_another_length_is_left_out(folder: Path) -> None:
    path = write_run(folder.parent / "other", 0, num_examples=40)
    stranger = folder / "seed-0" / "train-probe" / "step-000000000240.safetensors"
    stranger.write_bytes(checkpoint_paths(path, "train-probe")[240].read_bytes())
    record = loads_with_warnings(
        folder,
        f"Left out: '{stranger}' holds 40 examples, its series 37: move it out of the folder.",
        "Left out: checkpoints that not all runs hold: step 240.",
    )
    assert record.steps.tolist() == [0, 120]


def test_a_damaged_or_foreign_run_is_left_out(folder: Path) -> None:
    (folder / "seed-0" / "run.json").write_text("{")
    (folder / "seed-2" / "run.json").unlink()
    (folder / "lightning_logs" / "version_0").mkdir(parents=True)
    (folder / "notes.txt").write_text("not a run")
    with pytest.warns(UserWarning) as caught:
        assert EasinessRecord.load(folder).runs == ["seed-10"]
    assert [str(warning.message).split(" (")[0] for warning in caught] == [
        f"Left out: '{folder}/seed-0/run.json' is damaged",
        f"Left out: '{folder}/seed-2' is not a run: it holds no run.json.",
    ]


def test_nothing_that_can_be_read(tmp_path: Path) -> None:
    run = write_run(tmp_path, 0, steps=(120,))
    path = checkpoint_paths(run, "train-probe")[120]
    path.write_bytes(b"")
    message = f"Nothing of series 'train-probe' in '{tmp_path}' can be read: '{path}' is truncated or not"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        EasinessRecord.load(tmp_path)


def test_nothing_to_load(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    for path, arguments, message in (
        (
            folder / "nothing",
            {},
            f"'{folder}/nothing' is no folder: give one to which EasinessCallback(dirpath=...) wrote.",
        ),
        (
            empty,
            {},
            f"There is no run in '{empty}' (a run is a folder with run.json): "
            "give the folder to which EasinessCallback(dirpath=...) wrote.",
        ),
        (
            folder,
            {"series": "val-probe"},
            f"No run in '{folder}' holds the series 'val-probe': there are 'train-probe'.",
        ),
    ):
        with pytest.raises(FileNotFoundError, match=whole(message)):
            EasinessRecord.load(path, **arguments)
    RunWriter(empty, "begun").close()
    message = f"No run in '{empty}' holds the series 'train-probe': no run holds a checkpoint yet."
    with pytest.raises(FileNotFoundError, match=whole(message)):
        EasinessRecord.load(empty)


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
    with pytest.raises(FileExistsError, match="^Run 'seed-0' in .* already holds checkpoints"):
        record.save(tmp_path / "runs")


def test_merged_records_hold_the_runs_of_both(tmp_path: Path) -> None:
    for seed in range(4):
        write_run(tmp_path / ("a" if seed < 2 else "b"), seed)
    merged = EasinessRecord.merge(EasinessRecord.load(tmp_path / "a"), EasinessRecord.load(tmp_path / "b"))
    assert merged.seeds == [0, 1, 2, 3]
    assert torch.equal(merged.loss, expected("loss", (0, 1, 2, 3)))
    merged.save(tmp_path / "all")
    assert_same_record(EasinessRecord.load(tmp_path / "all"), merged)


def test_merging_follows_the_rule_for_stacking(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0)
    write_run(tmp_path / "b", 1, steps=(120, 360))
    records = [EasinessRecord.load(tmp_path / name) for name in "ab"]
    message = "Left out: checkpoints that not all runs hold: steps 0, 240, 360."
    with pytest.warns(UserWarning, match=whole(message)) as caught:
        assert EasinessRecord.merge(*records).steps.tolist() == [120]
    assert caught[0].filename == __file__


def test_merging_runs_of_one_name_keeps_both(tmp_path: Path) -> None:
    for name in "abc":
        write_run(tmp_path / name, 0)
    message = (
        "Runs 'seed-0', 'seed-0-2' and 'seed-0-3' have the same seed 0: "
        "unless something else differs, they tell no more than one of them."
    )
    with pytest.warns(UserWarning, match=whole(message)):
        merged = EasinessRecord.merge(*(EasinessRecord.load(tmp_path / name) for name in "abc"))
    assert merged.runs == ["seed-0", "seed-0-2", "seed-0-3"]


def test_what_cannot_be_merged(folder: Path, tmp_path: Path) -> None:
    record = EasinessRecord.load(folder)
    write_run(tmp_path / "online", 0, series="train-online")
    online = EasinessRecord.load(tmp_path / "online", "train-online")
    write_run(tmp_path / "other", 5, num_examples=40)
    for records, message in (
        ((), "merge() takes at least one record; got none."),
        (
            (record, online),
            "merge() takes records of one series; got 'train-probe', 'train-online': load them with the same `series`.",
        ),
        ((record, record), f"A record takes each run once; got run 'seed-0' in '{folder}/seed-0' twice."),
        (
            (record, EasinessRecord.load(tmp_path / "other")),
            "Runs 'seed-0' and 'seed-5' are of different data sets (37 and 40 examples): "
            "load those of one with runs=[...].",
        ),
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
    assert lines[0] == "Agreement of mean_loss with that of as many other runs (Spearman)"
    assert [int(line.split()[0]) for line in lines[2:]] == [num_runs // 2, num_runs, 2 * num_runs, 4 * num_runs]


def test_agreement_of_a_trajectory_and_of_a_single_run(folder: Path) -> None:
    record = EasinessRecord.load(folder)
    assert -1 <= record.agreement("area_under_margin", factor=()).half_agreement <= 1
    message = "agreement() needs at least 2 runs; got 1: repeat the training with other seeds."
    with pytest.raises(ValueError, match=whole(message)):
        record.select_runs([0]).agreement()


def test_num_classes_may_be_unknown(tmp_path: Path) -> None:
    write_run(tmp_path, 0, num_classes=None)
    record = EasinessRecord.load(tmp_path)
    assert record.num_classes is None
    assert repr(record).startswith("EasinessRecord('train-probe': 1 run, 3 checkpoints, 37 examples; ")
    write_run(tmp_path, 1)
    assert EasinessRecord.load(tmp_path).num_classes == NUM_CLASSES
