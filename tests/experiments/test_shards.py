"""A checkpoint to resume from that is a folder: each of its files is compared with its checksum before it is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_easiness.experiments.shards import checksums_of, damaged_shard, file_checksum, write_checksums
from tests.processes import run_script

SHARDS = ("__0_0.distcp", "__1_0.distcp", ".metadata", "meta.pt", "part/__2_0.distcp")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place, name in enumerate(SHARDS):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes([place]) * 1000 * place)
    write_checksums(tmp_path, [checksums_of(tmp_path, rank, 2) for rank in range(2)])
    return tmp_path


def found(folder: Path, number: int = 3) -> list[str]:
    """What a number of processes find, another one than wrote it."""
    return [problem for rank in range(number) if (problem := damaged_shard(folder, rank, number)) is not None]


def test_each_file_is_read_by_one_process(folder: Path) -> None:
    shares = [checksums_of(folder, rank, 3) or {} for rank in range(3)]
    assert sorted(name for share in shares for name in share) == sorted([*SHARDS, "checksums.json"])
    assert found(folder) == []


def test_the_checksum_is_the_crc_32(tmp_path: Path) -> None:
    (tmp_path / "check").write_bytes(b"123456789")
    assert file_checksum(tmp_path / "check") == "cbf43926", "of its definition"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes(content)


DAMAGED = "is damaged (by its checksum, it is not what was written)"


@pytest.mark.parametrize("name", SHARDS[1:])
@pytest.mark.parametrize(
    ("hurt", "problem"),
    [
        (flip, DAMAGED),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-1]),
            DAMAGED,
        ),
        (Path.unlink, "cannot be read (No such file or directory)"),
    ],
    ids=["flipped", "truncated", "deleted"],
)
def test_a_damaged_file_is_named(folder: Path, name: str, hurt: Callable[[Path], object], problem: str) -> None:
    hurt(folder / name)
    assert found(folder) == [f"'{folder / name}' {problem}"]


def test_damaged_checksums_are_named_by_every_process(folder: Path) -> None:
    path = folder / "checksums.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "meta.pt": "00000000"}))
    assert found(folder) == [f"'{path}' {DAMAGED}"] * 3


def test_a_folder_of_an_earlier_version_has_none(folder: Path) -> None:
    (folder / "checksums.json").unlink()
    flip(folder / SHARDS[1])
    assert found(folder) == []


def test_what_a_process_could_not_save_is_not_signed(folder: Path) -> None:
    with pytest.raises(OSError, match="a process could not save its part"):
        write_checksums(folder, [{}, None])


@pytest.mark.multiprocess
@pytest.mark.parametrize("number", [1, 2])
def test_a_run_is_not_resumed_from_a_damaged_shard(tmp_path: Path, number: int) -> None:
    ended = run_script("sharded_repeat", tmp_path, number, time_limit=240, ranks=number)
    assert ended.returncode == 0, ended.stderr[-3000:]
    path = tmp_path / "seed-1/resume.ckpt"
    way_out = f"copy it here again, or delete '{path}' to let its run start again."
    refusal = f"RecordFileError: '{path / '__0_0.distcp'}' {DAMAGED}: {way_out}"
    said = (tmp_path / "said.txt").read_text().splitlines()
    assert said == ["ArithmeticError: on purpose", refusal, "complete"]
