"""The script for a machine with a CUDA device: what of it can be tried without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_easiness import EasinessCallback
from tests.examples import EXAMPLES

BENCHMARKS = EXAMPLES / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


def run(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), *arguments]
    folders = [str(EXAMPLES.parent), *([str(path)] if path is not None else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders[::-1]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is for a machine without a CUDA device")
def test_without_a_device_one_sentence_says_so(tmp_path: Path) -> None:
    done = run("--output", str(tmp_path / "out"))
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "torch sees no CUDA device: run gpu.py where there is one, or try it with --device cpu."
    )
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------------------------- no step may wait


class Guarded:
    """Stands for a device: while its mode is "error", reading a number raises what torch would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch, self.read = monkeypatch, torch.Tensor.item

    def __call__(self, mode: str) -> None:
        self.patch.setattr(torch.Tensor, "item", self._raises if mode == "error" else self.read)

    @staticmethod
    def _raises(tensor: Any) -> Any:
        raise RuntimeError("called a synchronizing CUDA operation")


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Guarded:
    return Guarded(monkeypatch)


SETTING = Namespace(device="cpu", steps=6, size=40)


def test_an_observer_that_reads_a_number_is_caught_in_the_second_step(guard: Guarded) -> None:
    from gpu_steps import Reads, steps_without_waiting

    assert steps_without_waiting(Reads(), guard, SETTING) == 1
    assert torch.Tensor.item is guard.read, "the guard does not outlive the fit"


def test_the_callback_makes_all_steps(guard: Guarded, tmp_path: Path) -> None:
    from gpu_steps import OPTIONS, steps_without_waiting

    for name, options in OPTIONS.items():
        made = steps_without_waiting(EasinessCallback(tmp_path / name, probe=None), guard, SETTING, **options)
        assert made == SETTING.steps, name


def test_another_error_is_not_taken_for_waiting() -> None:
    from gpu_steps import Reads, steps_without_waiting

    def broken(mode: str) -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        steps_without_waiting(Reads(), broken, SETTING)


# ---------------------------------------------------------------------------------------------------------- everything


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_of_it_runs_on_a_cpu_without_what_a_device_machine_may_lack(tmp_path: Path) -> None:
    for name in ("jsonargparse", "xdist", "pytest_timeout"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('no', name={name!r})")
    out = tmp_path / "out"
    done = run("--device", "cpu", "--output", str(out), path=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((out / "benchmarks.json").read_text())["rows"]
    assert [*dict.fromkeys(row["part"] for row in rows)] == ["tests", "no step waits", "step", "pass"]
    tests = rows[0]
    assert tests["figure"]["median"] == 0, tests["note"]
    assert int(tests["note"].split(" skipped")[0].split()[-1]) > 5, "all are skipped without a device"
    assert (out / "benchmarks.md").read_text() in done.stdout


def test_tests_that_fail_are_counted_and_named(tmp_path: Path) -> None:
    from gpu_tests import outcomes

    file = tmp_path / "test_made_up.py"
    gpu = "@pytest.mark.gpu\ndef test_{}(): {}\n"
    file.write_text(
        "import pytest\n" + gpu.format("good", "pass") + gpu.format("bad", "assert 0") + "def test_x(): 1/0"
    )
    found, said = outcomes(tmp_path, [str(file)], [])
    assert dict(found) == {"passed": 1, "failure": 1}
    assert "test_bad" in said
    assert outcomes(tmp_path / "", [str(tmp_path / "no_such_file.py")], [])[0]["passed"] == 0


def test_what_would_begin_too_late_is_left_out(tmp_path: Path) -> None:
    import run as entry
    from gpu import PARTS

    found = entry.run(PARTS, "cpu", tmp_path, seconds=-1)
    assert found["rows"] == []
    assert [name for name in found["left_out"] if "no time was left" in name] == [
        f"{part.name} (no time was left)" for part in PARTS if part.options["cpu"] is not None
    ]
