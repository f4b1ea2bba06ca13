"""The examples run, in small."""

from __future__ import annotations

import csv
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.processes import run as process

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: str) -> str:
    done = process(EXAMPLES / name, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def fashion_root(tmp_path: Path) -> Path:
    """Noise in the place of Fashion-MNIST, in its file format."""
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for split, size in (("train", 300), ("t10k", 50)):
        images = torch.randint(256, (size, 28, 28), generator=generator, dtype=torch.uint8)
        labels = (torch.arange(size) % 10).to(torch.uint8)
        header = struct.pack(">4B3i", 0, 0, 8, 3, size, 28, 28)
        (folder / f"{split}-images-idx3-ubyte").write_bytes(header + images.numpy().tobytes())
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(
            struct.pack(">4Bi", 0, 0, 8, 1, size) + labels.numpy().tobytes()
        )
    return tmp_path


@pytest.mark.slow
def test_compress(fashion_root: Path, tmp_path: Path) -> None:
    options = ["--data-root", str(fashion_root), "--output", str(tmp_path / "out"), "--epochs", "1", "--seeds", "2"]
    printed = run("compress.py", *options, "--ratios", "0.5")
    for equal in ("epochs", "updates"):
        table = (tmp_path / "out" / f"equal_{equal}.md").read_text()
        assert table.strip() in printed
        ways = ["random", "easy", "hard", "stepwise", "stratified"]
        assert [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")] == [
            "removed", "---", *ways, "*updates*", "removed", "---", *ways,
        ], "the second table is of the class that is predicted worst"  # fmt: skip
        assert (tmp_path / "out" / f"equal_{equal}.png").stat().st_size > 5000


@pytest.mark.slow
def test_suspects_of_fashion_mnist(fashion_root: Path, tmp_path: Path) -> None:
    options = ["--data-root", str(fashion_root), "--output", str(tmp_path / "out"), "--epochs", "2", "--seeds", "1"]
    run("label_issues.py", "--labels", "fashion", *options)
    assert {"suspects.csv", "suspects.png", "tensorboard"} <= {path.name for path in (tmp_path / "out").iterdir()}


@pytest.fixture
def cifar_root(tmp_path: Path) -> Path:
    """Noise in the place of CIFAR-10 as the examples keep it, with labels of which some are wrong."""
    folder = tmp_path / "cifar10"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for split, size in (("train", 120), ("test", 40)):
        images = torch.randint(256, (size, 3, 32, 32), generator=generator, dtype=torch.uint8)
        save_file({"images": images, "labels": torch.arange(size) % 10}, folder / f"{split}.safetensors")
    clean = np.arange(120, dtype=np.uint8) % 10
    worse = np.where(np.arange(120) % 3 == 0, (clean + 1) % 10, clean).astype(np.uint8)
    np.savez(folder / "cifar10n-labels.npz", clean=clean, worse=worse, aggregate=clean)
    return tmp_path


@pytest.mark.slow
def test_label_issues_of_people(cifar_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--data-root", str(cifar_root), "--output", str(out), "--epochs", "2", "--seeds", "1", "--no-cleanlab"]
    run("label_issues.py", "--labels", "worse", *options)
    lines = (out / "table.md").read_text().splitlines()
    names = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert "weighted_area_under_margin" in names
    assert "flagged ones dropped" in names
    assert {"suspects.csv", "suspects.png", "tensorboard"} <= {path.name for path in out.iterdir()}


def test_the_figures_are_drawn_again_from_the_tables_that_are_kept(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run("redraw.py", "--output", str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {
        "fashion_mnist_equal_epochs.png", "fashion_mnist_equal_updates.png",
    }  # fmt: skip
    sys.path.insert(0, str(EXAMPLES))
    try:
        import redraw
    finally:
        sys.path.remove(str(EXAMPLES))
    rows = redraw.comparison_rows(EXAMPLES / "results" / "compress_fashion_mnist.md", "updates")
    assert len(rows) == 1 + 5 * 9
    about = {"metric": "test_accuracy", "num_seeds": 3, "equal": "updates"}
    assert rows[0] == {"method": "everything", "ratio": 0.0, "mean": 0.882, "spread": 0.003, **about}
    assert {"method": "stratified", "ratio": 0.9, "mean": 0.826, "spread": 0.007, **about} in rows


@pytest.mark.slow
def test_train_faster() -> None:
    pytest.importorskip("sklearn")
    rows = run("train_faster.py", "--seeds", "1", "--epochs", "6").splitlines()
    uses = [float(row.split("%")[0].split()[-1]) for row in rows if row.startswith(("classic", "SET"))]
    assert uses[0] == 100
    assert 50 < uses[1] < 95, "two early and two final epochs, and about half of the others"


def test_the_floor(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    printed = run("sel_floor.py", "--output", str(tmp_path / "floor.png"))
    steepest = [float(line.split("steepest")[1].split()[0]) for line in printed.splitlines()]
    assert steepest == sorted(steepest, reverse=True)
    assert (tmp_path / "floor.png").stat().st_size > 5000


@pytest.mark.slow
def test_quickstart(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    lines = run("quickstart.py", "--seeds", "2", "--epochs", "2", "--output", str(tmp_path)).splitlines()
    table = lines[lines.index("  index  digit  predicted   loss  spread") + 1 :][:10]
    assert any(line.split()[1] != line.split()[2] for line in table)
    losses = [float(line.split()[3]) for line in table]
    assert losses == sorted(losses, reverse=True)
    rates = [float(line.split()[-1]) for line in lines if line.startswith(("  easiest:", "  hardest:"))]
    assert len(rates) == 2
    assert min(rates) > 0.1, "two architectures must agree better than by chance"
    assert {"data_map.png", "hardest.png", "averages.png", "tensorboard"} <= {path.name for path in tmp_path.iterdir()}


def test_the_notebook_runs_and_shows_tables_and_images(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells), "stored without outputs"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # threads would wait for each other beside other tests
    nbclient.NotebookClient(notebook, timeout=280, kernel_name="python3").execute()
    outputs = [output for cell in cells for output in cell.outputs]
    kinds = [set(output.data) - {"text/plain"} for output in outputs if output.output_type == "execute_result"]
    table, image = {"text/html"}, {"image/png"}
    assert kinds == [table, table, table, image, image, table, image]
    printed = next(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    flagged, found = (int(part.split()[0]) for part in printed.split("; "))
    assert found > 20, "of 30 labels that were made wrong"
    assert found > flagged / 2


@pytest.mark.slow
def test_label_cut(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    out = tmp_path / "out"
    options = ["--output", str(out), "--ways", "seeds", "--only", "^wine-(linear-5-clean|mlp-20-uniform10)$"]
    printed = run("label_cut.py", *options)
    table = (out / "label_cut.md").read_text()
    assert table.strip() in printed
    with (out / "label_cut.csv").open(newline="") as file:
        clean, corrupted = csv.DictReader(file)
    assert (clean["wrong"], clean["f1"]) == ("0.0", "nan")
    assert float(corrupted["wrong"]) == pytest.approx(18 / 178)
    both = float(corrupted["precision"]) * float(corrupted["called"])
    assert both == pytest.approx(float(corrupted["recall"]) * 18)
    assert float(corrupted["f1"]) <= float(corrupted["best f1"])
    assert float(corrupted["auroc"]) > 0.8
    again = run("label_cut.py", *options, "--no-training")
    assert again == table, "from what is kept, and with no training"


@pytest.mark.slow
def test_memorization(fashion_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    options = ["--data-root", str(fashion_root), "--output", str(out), "--epochs", "2", "--seeds", "4"]
    printed = run("memorization.py", *options, "--hold-out", "0.5", "--drop", "0.2", "--retrainings", "1")
    table = (out / "memorization.md").read_text()
    assert table.strip() in printed
    counts = [int(line.split("|")[2]) for line in table.splitlines() if " to " in line]
    assert sum(counts) == 300, "every example was held out by some runs and trained on by others"
    assert {"histogram.png", "most_memorised.png", "dropped-hard-0.2-0.json"} <= {path.name for path in out.iterdir()}
