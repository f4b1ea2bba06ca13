"""Plain JSON of any value: the same in every process, never long, and with no memory address."""

import enum
import json
import os
import subprocess
import sys
from argparse import Namespace
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lightning_easiness._utils.plain import plain
from tests.processes import run


class Opaque:
    def __call__(self) -> None: ...


class Colour(enum.Enum):
    RED = 1


@dataclass
class Settings:
    width: int = 3
    act: Any = nn.ReLU


HERE = __name__
VALUES: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (np.float32(0.5), 0.5),
    (torch.tensor(0.25), 0.25),
    (float("nan"), "nan"),
    (1e-3, 1e-3),
    ((1, [2, {3}]), [1, [2, [3]]]),
    ({1: "a"}, {"1": "a"}),
    ({"b", "a"}, ["a", "b"]),
    (Path("/scratch/job-1/digits"), "digits"),
    ("/scratch/job-2/digits", "digits"),
    ("cosine", "cosine"),
    (Colour.RED, f"{HERE}.Colour.RED"),
    (torch.float16, "torch.float16"),
    (Opaque, f"{HERE}.Opaque"),
    (Opaque(), f"{HERE}.Opaque"),
    (nn.Linear(2, 3), "torch.nn.modules.linear.Linear"),
    (len, "len"),
    (Settings(), {"class": f"{HERE}.Settings", "width": 3, "act": "torch.nn.modules.activation.ReLU"}),
    (Settings, f"{HERE}.Settings"),
    (Namespace(lr=0.1), {"class": "argparse.Namespace", "lr": 0.1}),
    ({nn.functional.relu, len}, ["len", "torch.nn.functional.relu"]),
    (partial(int, "11", base=2), {"function": "int", "args": ["11", {"base": 2}]}),
]


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=[str(number) for number in range(len(VALUES))])
def test_a_value_is_what_it_says(value: Any, expected: Any) -> None:
    assert plain(value) == expected
    json.dumps(plain(value), allow_nan=False)


@pytest.mark.parametrize("make", [range, lambda n: torch.arange(n), lambda n: {str(key): key for key in range(n)}])
def test_what_is_long_is_short_and_tells_values_apart(make: Any) -> None:
    one, other = plain(make(10_000)), plain(make(10_001))
    assert len(json.dumps(one)) < 100
    assert one != other
    assert one == plain(make(10_000))


def test_arrays_differ_by_value_and_shape_and_dtype() -> None:
    arrays = [torch.zeros(4), torch.ones(4), torch.zeros(2, 2), torch.zeros(4, dtype=torch.bfloat16)]
    assert len({plain(array) for array in arrays}) == 4
    assert plain(torch.ones(3)) == plain(np.ones(3, np.float32)), "however it is held"


def test_a_cycle_and_a_deep_value_come_to_an_end() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    assert len(json.dumps(plain(cycle))) < 100


def test_it_is_the_same_in_another_process() -> None:
    code = "import torch; from lightning_easiness._utils.plain import plain\nclass A: pass\n"
    code += "print(plain([A(), {'b', 'a', 'c'}, torch.arange(100), lambda: 1, range(100), object()]))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},  # decides the order of a set: another one for each of these
        ).stdout
        for seed in "12"
    }
    assert len(found) == 1
    assert "['a', 'b', 'c']" in (printed := found.pop())
    assert "0x" not in printed


def test_a_script_has_the_name_that_it_is_imported_by(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "from lightning_easiness._utils.plain import class_name\nclass Net: pass\nprint(class_name(Net()))"
    )
    for command in ([tmp_path / "train.py"], ["-m", "train"], ["-c", "import train"]):
        assert run(*command, PYTHONPATH=str(tmp_path)).stdout.strip() == "train.Net"
