from pathlib import Path

import pytest

from tests.made_runs import write_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three complete runs of three checkpoints; the last of their names comes second in the alphabet."""
    for seed in (0, 2, 10):
        write_run(tmp_path, seed)
    return tmp_path
