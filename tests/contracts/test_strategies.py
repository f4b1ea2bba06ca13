"""Strategies other than plain ddp give the numbers of one process."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch.multiprocessing

from tests.processes import ROOT, run, start_spawned

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow, pytest.mark.timeout(900)]

# what is tried here; examples/benchmarks/strategies.py tries everything under each of them, and under more
CASES = {
    "ddp_spawn, 2": ("callback", "repeat_fit"),
    "tensor parallel, 1 x 2": ("callback", "datamodule", "selmodule", "repeat_fit"),
    "FSDP2, 2 x 1": ("callback", "repeat_fit", "experiments"),
    "two nodes of 2, torchrun": ("callback", "datamodule"),
}


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "examples/benchmarks"))
        import strategies

        yield strategies


def start(script: Any, name: str, folder: Path, scenarios: tuple[str, ...], processes: int) -> str | None:
    """Make fits as the script does, in processes that have everything imported."""
    nodes = script.STRATEGIES[name].nodes
    ended = run(
        *(script.__file__, "--fit", name, folder, *scenarios),
        ranks=processes,
        nodes=max(nodes, 1),
        time_limit=script.TIME_LIMIT,
        PYTHONWARNINGS="ignore",
        GLOO_SOCKET_IFNAME="lo",
    )
    return ended.stdout + ended.stderr if ended.returncode else None


def start_here(script: Any, name: str, folder: Path, scenarios: tuple[str, ...]) -> None:
    """Make fits whose processes Lightning spawns."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(torch.multiprocessing, "start_processes", start_spawned)
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        script.make_fits(name, str(folder), scenarios)


def outcomes(script: Any, name: str, folder: Path, scenarios: tuple[str, ...]) -> dict[str, str]:
    ways: dict[str, Callable[..., str | None]] = {script.ONE: partial(start, processes=1), "ddp_spawn, 2": start_here}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "start", partial(ways.get(name, partial(start, processes=2)), script))
        return dict(script.outcomes(name, folder, scenarios, True))


@pytest.fixture(scope="module")
def folder(script: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the fits of one process left."""
    made = tmp_path_factory.mktemp("strategies")
    assert outcomes(script, script.ONE, made, script.SCENARIOS).keys() == set(script.SCENARIOS)
    return made


@pytest.mark.parametrize("strategy", CASES)
def test_a_strategy_gives_the_numbers_of_one_process(strategy: str, script: Any, folder: Path) -> None:
    found = outcomes(script, strategy, folder, CASES[strategy])
    assert found == dict.fromkeys(CASES[strategy], "equal to one process")
