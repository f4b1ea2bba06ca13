"""The examples with a folder that holds no data: one sentence that says where the data come from, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import run

EXAMPLES = Path(__file__).parents[2] / "examples"

FASHION = (
    "there is no Fashion-MNIST in '{root}': --data-root must be the folder that holds FashionMNIST/raw with the four"
    " files of https://github.com/zalandoresearch/fashion-mnist, unpacked;"
    " torchvision.datasets.FashionMNIST('{root}', download=True) puts it there."
)
CIFAR = (
    "there is no CIFAR-10 in '{root}': --data-root must be the folder that holds cifar-10-batches-py of"
    " https://www.cs.toronto.edu/~kriz/cifar.html; torchvision.datasets.CIFAR10('{root}', download=True) puts it there"
    " (or the same images as cifar10/train/<class>/<index>.jpg and cifar10/test)."
)
WITHOUT_DATA = {
    "compress.py": FASHION,
    "label_issues.py --labels fashion": FASHION,
    "label_issues.py --labels worse": CIFAR,
    "label_cut.py --setting full": FASHION,
    "memorization.py": FASHION,
}
LABELS = (
    "there are no labels of CIFAR-10N in '{root}': --data-root must be the folder that holds"
    " cifar10/cifar10n-labels.npz with the arrays clean, aggregate and worse, which are clean_label, aggre_label and"
    " worse_label in the file CIFAR-10_human.pt of https://github.com/UCSC-REAL/cifar-10-100n."
)


def ended(command: str, root: Path) -> str:
    """Run an example that ends at once, and return the sentence that it ends with."""
    name, *options = command.split()
    done = run(EXAMPLES / name, *options, "--data-root", root, "--output", root / "out")
    assert (done.returncode, done.stdout) == (1, "")
    assert not (root / "out").exists()
    return done.stderr.removeprefix(f"{name}: ").removesuffix("\n")


@pytest.mark.parametrize("command", WITHOUT_DATA)
def test_a_wrong_data_root_is_answered_by_where_the_data_come_from(command: str, tmp_path: Path) -> None:
    assert ended(command, tmp_path) == WITHOUT_DATA[command].format(root=tmp_path)


def test_images_without_the_labels_of_people(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert ended("label_issues.py --labels worse", tmp_path) == LABELS.format(root=tmp_path)


def test_every_example_that_takes_a_folder_of_data_is_here() -> None:
    takes_one = {path.name for path in EXAMPLES.glob("*.py") if '"--data-root"' in path.read_text()}
    assert takes_one == {command.split()[0] for command in WITHOUT_DATA}
