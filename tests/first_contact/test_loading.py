"""A record is loaded by the folder's name alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import Subset, random_split

from lightning_easiness import EasinessCallback, EasinessRecord
from lightning_easiness.cli.main import main
from tests.small import Net, Points, loader, trainer


def test_a_folder_without_an_evaluation_pass_is_loaded_by_its_only_series(tmp_path: Path) -> None:
    callback = EasinessCallback(tmp_path / "watched", probe=None)
    trainer(callbacks=[callback]).fit(Net(), loader())
    record = EasinessRecord.load(tmp_path / "watched")
    assert record.series == "train-online"
    assert record.score("mean_loss").values.isfinite().all()
    assert main(["score", str(tmp_path / "watched"), "--hardest", "0.1"]) == 0


def test_indices_of_a_random_split_lead_to_the_whole_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Points(50)
    train, _ = random_split(whole, [30, 20], generator=torch.Generator().manual_seed(1))
    trainer(callbacks=[EasinessCallback(tmp_path / "easiness")]).fit(Net(), loader(train))
    scores = EasinessRecord.load(tmp_path / "easiness").score("mean_loss")
    table = scores.to_pandas()
    assert scores.source_index.tolist() == table["source_index"].tolist() == train.indices
    for row in table.itertuples():
        assert row.target == whole[row.source_index][1]

    assert main(["score", str(tmp_path / "easiness"), "--hardest", "0.1"]) == 0
    *_, names, first, second, third = capsys.readouterr().out.splitlines()
    assert names.split()[-1] == "source_index"
    assert [int(line.split()[-1]) for line in (first, second, third)] == [
        train.indices[index] for index in scores.hardest(0.1).tolist()
    ]


@pytest.mark.filterwarnings("ignore:no example with the label")
def test_a_selection_from_a_subset_says_which_indices_it_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = Subset(Points(50), range(49, 19, -1))
    trainer(callbacks=[EasinessCallback(tmp_path / "easiness")]).fit(Net(), loader(train))
    command = ["select", str(tmp_path / "easiness"), "--ratio", "0.5", "--remove", "random"]
    assert main(command) == 0
    printed = capsys.readouterr()
    kept = [int(line) for line in printed.out.splitlines()]
    assert (len(kept), max(kept) < 30) == (15, True)
    assert printed.err.endswith(
        " Indices count in the part that was trained on; a .csv has those in the whole data set too.\n"
    )
    assert main([*command, "--output", str(tmp_path / "kept.csv")]) == 0
    names, *rows = (tmp_path / "kept.csv").read_text().splitlines()
    assert names == "example,source_index"
    assert rows == [f"{index},{49 - index}" for index in kept]
