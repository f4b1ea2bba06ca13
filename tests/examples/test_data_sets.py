"""Each data set of the experiments is read from its true format, and what is missing or other is said in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.datasets import cifar, svhn

from tests.examples import archives

import data_sets  # isort: skip
import folder_data  # isort: skip


@pytest.fixture(autouse=True)
def _any_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchvision knows the checksums of the published files, and these are others."""
    for module in (cifar, svhn):
        monkeypatch.setattr(module, "check_integrity", lambda path, md5=None: Path(path).exists())


@pytest.mark.parametrize("name", archives.MAKERS)
def test_a_data_set_is_read_from_its_true_format(name: str, tmp_path: Path) -> None:
    archives.MAKERS[name](tmp_path)
    pictures, form = data_sets.load(name, tmp_path), data_sets.FORMS[name]
    side = 256 if name == "mini-imagenet" else form.image_size
    for images, target in ((pictures.images, pictures.target), (pictures.test_images, pictures.test_target)):
        assert images.shape == (archives.PER_CLASS * form.num_classes, form.channels, side, side)
        assert (images.dtype, target.dtype) == (torch.uint8, torch.int64)
        assert torch.bincount(target).tolist() == [archives.PER_CLASS] * form.num_classes
    assert len(pictures.classes) == form.num_classes
    assert not torch.equal(pictures.images, pictures.test_images)


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar-10", "cifar-100", "svhn"])
def test_its_pixels_and_labels_are_those_of_the_files(name: str, tmp_path: Path) -> None:
    archives.MAKERS[name](tmp_path)
    pictures = data_sets.load(name, tmp_path)
    classes = data_sets.FORMS[name].num_classes
    if name == "fashion-mnist":
        expected = torch.from_numpy(archives.noise(20, 28, 28))[:, None]
    elif name == "svhn":
        expected = torch.from_numpy(archives.noise(20, 32, 32, 3)).movedim(3, 1)
    else:
        expected = torch.from_numpy(archives.noise(2 * classes, 3072)).view(-1, 3, 32, 32)
    assert torch.equal(pictures.images, expected)
    assert pictures.target.tolist() == archives.labels(classes).tolist()


def test_jpeg_folders_are_decoded_once_in_the_original_order(tmp_path: Path) -> None:
    archives.cifar_10_folders(tmp_path)
    first = data_sets.load("cifar-10", tmp_path)
    assert first.target.tolist() == archives.labels(10).tolist()
    published = torch.from_numpy(archives.noise(20, 32, 32, 3)).movedim(3, 1)
    error = (first.images.float() - published.float()).abs().mean(dim=(1, 2, 3))
    assert float(error.max()) < 60  # JPEG of noise; of another image it is 85
    (tmp_path / "cifar10" / "train").rename(tmp_path / "moved")
    assert torch.equal(data_sets.load("cifar-10", tmp_path).images, first.images)


def test_mini_imagenet_holds_its_ten_classes_alone_in_the_order_of_the_footnote(tmp_path: Path) -> None:
    archives.imagenet(tmp_path)
    pictures = data_sets.load("mini-imagenet", tmp_path)
    assert (len(pictures.classes), pictures.classes[0], pictures.classes[7]) == (10, "sea snake", "sundial")
    assert pictures.target.tolist() == [label for label in range(10) for _ in range(archives.PER_CLASS)]


def test_imagenet_stays_in_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("n1", "n2", "n3")
    monkeypatch.setitem(data_sets.FORMS, "imagenet", data_sets.Form(3, 224, 3))
    archives.imagenet(tmp_path, names)
    data = folder_data.FolderData(tmp_path, batch_size=4, side=32, workers=0)
    images, target = next(iter(data.train_dataloader()))
    assert (images.shape, images.dtype, target.shape) == ((4, 3, 32, 32), torch.uint8, (4,))
    first, second = (next(iter(data.probe_dataloader()))[0] for _ in range(2))
    assert torch.equal(first, second)  # not augmented
    normalized = data.on_after_batch_transfer((images, target), 0)[0]
    assert float(normalized.mean()) == pytest.approx(0, abs=1e-5)


def missing(name: str, root: Path | None) -> str:
    with pytest.raises(SystemExit) as refused:
        folder_data.FolderData(root, 4) if name == "imagenet" else data_sets.load(name, root)
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence


WHERE = {
    "fashion-mnist": "FashionMNIST/raw", "cifar-10": "cifar-10-batches-py", "cifar-100": "cifar-100-python",
    "svhn": "svhn/train_32x32.mat", "mini-imagenet": "imagenet/train/<wnid>", "imagenet": "imagenet/train/<wnid>",
}  # fmt: skip


@pytest.mark.parametrize("name", WHERE)
def test_a_root_without_the_set_says_what_to_put_where(name: str, tmp_path: Path) -> None:
    assert "--data-root ROOT" in missing(name, None)
    sentence = missing(name, tmp_path)
    assert str(tmp_path) in sentence
    assert WHERE[name] in sentence


@pytest.mark.parametrize("name", ["fashion-mnist", "svhn"])
def test_half_a_data_set_is_missing(name: str, tmp_path: Path) -> None:
    archives.MAKERS[name](tmp_path)
    half = {"fashion-mnist": "FashionMNIST/raw/t10k-labels-idx1-ubyte", "svhn": "svhn/test_32x32.mat"}[name]
    (tmp_path / half).unlink()
    assert WHERE[name] in missing(name, tmp_path)


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    archives.cifar_10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
    assert "CIFAR10" in missing("cifar-10", tmp_path)


def test_another_list_of_classes_is_refused(tmp_path: Path) -> None:
    archives.cifar_10_folders(tmp_path)
    (tmp_path / "cifar10" / "train" / "frog").rename(tmp_path / "cifar10" / "train" / "toad")
    assert "must hold the 10 classes airplane to truck, but lacks ['frog']" in missing("cifar-10", tmp_path)


def test_an_imagenet_without_one_of_the_ten_is_refused(tmp_path: Path) -> None:
    archives.imagenet(tmp_path, tuple(data_sets.MINI_IMAGENET)[:-1])
    assert "lacks ['n07717556']" in missing("mini-imagenet", tmp_path)


def test_an_imagenet_of_few_classes_is_refused(tmp_path: Path) -> None:
    archives.imagenet(tmp_path)
    assert "must hold the 1000 classes of ILSVRC 2012, and holds 11" in missing("imagenet", tmp_path)


def test_labels_of_other_classes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives.fashion_mnist(tmp_path)
    monkeypatch.setitem(data_sets.FORMS, "fashion-mnist", data_sets.Form(1, 28, 11))
    assert "must have labels 0 to 10, and its training part has 10" in missing("fashion-mnist", tmp_path)


def test_there_is_no_other_data_set() -> None:
    assert "there is no data set 'cifar10' to hold in memory: choose one of fashion-mnist" in missing("cifar10", None)
