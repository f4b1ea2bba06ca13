"""The README says what is so: its Python runs, its commands exist, its tables name what the package has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import lightning_easiness
from lightning_easiness.scores import SCORES
from tests.small import Net, loader, trainer

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


class Pictures(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 53

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        generator = torch.Generator().manual_seed(index)
        return torch.rand(3, 8, 8, generator=generator), index % 4


class PictureNet(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x[:, 0, 0])


def test_every_python_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in lightning_easiness.__all__:  # loaded now, with the real Trainer in their annotations
        getattr(lightning_easiness, name)
    monkeypatch.setattr("lightning.pytorch.Trainer", trainer)
    data = Pictures()
    names: dict[str, Any] = {"YourModule": PictureNet, "your_loader": loader(data), "your_dataset": data}
    names["your_val_loader"] = loader(Pictures(), shuffle=False)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert {path.name for path in tmp_path.iterdir()} >= {"easiness", "easiness-10", "scores.csv", "hardest.png"}


@pytest.mark.parametrize("name", SCORES)
def test_every_score_is_in_its_table_with_its_direction(name: str) -> None:
    row = re.search(rf"^\| `{name}` \|.*$", README, flags=re.MULTILINE)
    assert row is not None
    direction = row.group().split("|")[4].strip()
    assert direction == ("high" if SCORES[name].higher_is_easier else "low")


def test_files_that_it_names_exist() -> None:
    for path in re.findall(r"(?:examples|tests)/[\w/.-]+\.\w+", README):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"`(test_\w+\.py)`", README):
        assert list((ROOT / "tests").rglob(name)), name
