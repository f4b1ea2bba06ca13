"""Strategies other than plain ddp give the numbers of one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ROOT

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
    """The script, which is imported, so that it is not started once more to start others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "examples/benchmarks"))
        patch.setenv("PYTHONPATH", str(ROOT))
        import strategies

        yield strategies


@pytest.fixture(scope="module")
def folder(script: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the fits of one process left."""
    made = tmp_path_factory.mktemp("strategies")
    assert dict(script.outcomes(script.ONE, made, script.SCENARIOS, True)).keys() == set(script.SCENARIOS)
    return made


@pytest.mark.parametrize("strategy", CASES)
def test_a_strategy_gives_the_numbers_of_one_process(strategy: str, script: Any, folder: Path) -> None:
    found = dict(script.outcomes(strategy, folder, CASES[strategy], True))
    assert found == dict.fromkeys(CASES[strategy], "equal to one process")
