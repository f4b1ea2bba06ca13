"""Data sets by name, as uint8 tensors in memory: from a folder that holds them, as they are published.

    fashion-mnist   ROOT/FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte
    cifar-10        ROOT/cifar-10-batches-py, or ROOT/cifar10/{train,test}/<class>/<index in the original>.jpg
    cifar-100       ROOT/cifar-100-python
    svhn            ROOT/svhn/{train,test}_32x32.mat
    mini-imagenet   the ten classes of the 2018 text out of ROOT/imagenet, as squares of 256 pixels
    imagenet        ROOT/imagenet/{train,val}/<wnid>/*.JPEG; too large for memory, read as folder_data.py does

Nothing is downloaded. What is missing, or has other classes, ends the program with a sentence that says what to put
where.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision import datasets
from torchvision.transforms import functional as transforms

CIFAR_10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MINI_IMAGENET = {
    "n01751748": "sea snake",
    "n02123394": "Persian cat",
    "n02169497": "leaf beetle",
    "n02883205": "bow tie",
    "n03125729": "cradle",
    "n03954731": "woodworking plane",
    "n04332243": "strainer",
    "n04355338": "sundial",  # the text prints n04355358, which is not in ImageNet-1k
    "n04553703": "washbasin",
    "n07717556": "butternut squash",
}
_SQUARE = 256  # side of mini ImageNet's images in memory


@dataclass(frozen=True)
class Form:
    """What a data set looks like: channels and side of its images as networks get them, and its number of classes."""

    channels: int
    image_size: int
    num_classes: int


FORMS = {
    "fashion-mnist": Form(1, 28, 10),
    "cifar-10": Form(3, 32, 10),
    "cifar-100": Form(3, 32, 100),
    "svhn": Form(3, 32, 10),
    "mini-imagenet": Form(3, 224, 10),
    "imagenet": Form(3, 224, 1000),
}


@dataclass(frozen=True)
class Source:
    """Where a data set is under the data root: one of several groups of paths; and what to say where none is."""

    title: str
    paths: tuple[tuple[str, ...], ...]
    holds: str
    downloader: str | None = None
    also: str = ""


_IMAGENET = Source(
    "ImageNet",
    (("imagenet/train", "imagenet/val"),),
    "imagenet/train/<wnid>/*.JPEG and imagenet/val/<wnid>/*.JPEG of ILSVRC 2012",
)
SOURCES = {
    "fashion-mnist": Source(
        "Fashion-MNIST",
        (tuple(f"FashionMNIST/raw/{a}-{b}-ubyte" for a in ("train", "t10k") for b in ("images-idx3", "labels-idx1")),),
        "FashionMNIST/raw with the four files of https://github.com/zalandoresearch/fashion-mnist, unpacked",
        "FashionMNIST",
    ),
    "cifar-10": Source(
        "CIFAR-10",
        (
            ("cifar-10-batches-py",),
            ("cifar10/train", "cifar10/test"),
            ("cifar10/train.safetensors", "cifar10/test.safetensors"),
        ),
        "cifar-10-batches-py of https://www.cs.toronto.edu/~kriz/cifar.html",
        "CIFAR10",
        " (or the same images as cifar10/train/<class>/<index>.jpg and cifar10/test)",
    ),
    "cifar-100": Source(
        "CIFAR-100",
        (("cifar-100-python",),),
        "cifar-100-python of https://www.cs.toronto.edu/~kriz/cifar.html",
        "CIFAR100",
    ),
    "svhn": Source(
        "SVHN",
        (("svhn/train_32x32.mat", "svhn/test_32x32.mat"),),
        "svhn/train_32x32.mat and svhn/test_32x32.mat of http://ufldl.stanford.edu/housenumbers",
    ),
    "mini-imagenet": _IMAGENET,
    "imagenet": _IMAGENET,
}


@dataclass(frozen=True)
class Pictures:
    """Images, uint8 (N, C, H, W), with their labels, int64 (N,), for training and for testing; names of the classes."""

    images: Tensor
    target: Tensor
    test_images: Tensor
    test_target: Tensor
    classes: Sequence[str]

    def first(self, size: int | None, test_size: int | None = None) -> Pictures:
        """Return the first `size` training examples and the first `test_size` test examples; None for all."""
        test = {"test_images": self.test_images[:test_size], "test_target": self.test_target[:test_size]}
        return replace(self, images=self.images[:size], target=self.target[:size], **test)

    def coloured(self) -> Pictures:
        """Return images of three channels, grey ones three times the same."""
        images, other = (held.expand(-1, 3, -1, -1) for held in (self.images, self.test_images))
        return replace(self, images=images, test_images=other)

    def resized(self, side: int | None) -> Pictures:
        """Return all images with another side length, averaged down."""
        if side is None or side == self.images.shape[-1]:
            return self
        return replace(self, images=_resized(self.images, side), test_images=_resized(self.test_images, side))


def load(name: str, root: Path | None) -> Pictures:
    """Read a data set from its folder; the first call decodes JPEG files, where it is made of them."""
    readers: dict[str, Callable[[Path], Pictures]] = {
        "fashion-mnist": _fashion_mnist, "cifar-10": _cifar_10, "cifar-100": _cifar_100, "svhn": _svhn,
        "mini-imagenet": _mini_imagenet,
    }  # fmt: skip
    if name not in readers:
        refuse(f"there is no data set '{name}' to hold in memory: choose one of {', '.join(readers)}.")
    return _checked(name, readers[name](need(name, root)))


def need(name: str, root: Path | None) -> Path:
    """Return the root of a data set; end the program with a sentence unless the data set is there."""
    source = SOURCES[name]
    if root is None:
        refuse(f"{source.title} is read from a folder: give --data-root ROOT.")
    if not any(all((root / path).exists() for path in group) for group in source.paths):
        call = f"torchvision.datasets.{source.downloader}('{root}', download=True) puts it there{source.also}"
        refuse(
            f"there is no {source.title} in '{root}': --data-root must be the folder that holds {source.holds}"
            f"{f'; {call}' if source.downloader else ''}."
        )
    return root


def made_up(name: str, size: int, image_size: int | None = None) -> Pictures:
    """Return noise in the form of a data set, to try a training without it."""
    form = FORMS[name]
    side = image_size or form.image_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (size, form.channels, side, side), generator=generator, dtype=torch.uint8)
    target = torch.arange(size) % form.num_classes
    return Pictures(images, target, images, target, [str(label) for label in range(form.num_classes)])


def check_classes(found: Sequence[str], expected: Sequence[str], where: object) -> None:
    """End the program unless a data set has the classes that it must have, in their order."""
    if list(found) != list(expected):
        missing = [one for one in expected if one not in found]
        other = [one for one in found if one not in expected]
        what = f"lacks {missing[:3]}" if missing else f"also has {other[:3]}" if other else "has them in another order"
        refuse(f"'{where}' must hold the {len(expected)} classes {expected[0]} to {expected[-1]}, but {what}.")


def refuse(sentence: str) -> NoReturn:
    """End the program with one sentence."""
    raise SystemExit(f"{Path(sys.argv[0]).name}: {sentence}")


# -------------------------------------------------------------------------------------------------------- the data sets


def _fashion_mnist(root: Path) -> Pictures:
    train, test = (_opened(datasets.FashionMNIST, root, train=train) for train in (True, False))
    return Pictures(train.data[:, None], train.targets, test.data[:, None], test.targets, train.classes)


def _cifar_10(root: Path) -> Pictures:
    held = [_kept_cifar_10(root, split) for split in ("train", "test")]
    return Pictures(held[0]["images"], held[0]["labels"], held[1]["images"], held[1]["labels"], CIFAR_10)


def _kept_cifar_10(root: Path, split: str) -> dict[str, Tensor]:
    """Return the images of a split in their original order; JPEG files are decoded once."""
    folder, kept = root / "cifar10" / split, root / "cifar10" / f"{split}.safetensors"
    if kept.exists():
        return load_file(kept)
    if folder.exists():
        decoded = _decoded(folder)
        save_file(decoded, kept)
        return decoded
    return _as_tensors(_opened(datasets.CIFAR10, root, train=split == "train"))


def _decoded(folder: Path) -> dict[str, Tensor]:
    files = datasets.ImageFolder(folder)
    check_classes(files.classes, CIFAR_10, folder)
    order = sorted(range(len(files)), key=lambda place: int(Path(files.samples[place][0]).stem))
    images = torch.stack([transforms.pil_to_tensor(files[place][0]) for place in order])
    return {"images": images, "labels": torch.tensor([files.targets[place] for place in order])}


def _cifar_100(root: Path) -> Pictures:
    train, test = (_opened(datasets.CIFAR100, root, train=train) for train in (True, False))
    held, other = _as_tensors(train), _as_tensors(test)
    return Pictures(held["images"], held["labels"], other["images"], other["labels"], train.classes)


def _as_tensors(data: Any) -> dict[str, Tensor]:
    return {"images": torch.from_numpy(data.data).movedim(3, 1).contiguous(), "labels": torch.tensor(data.targets)}


def _svhn(root: Path) -> Pictures:
    train, test = (_opened(datasets.SVHN, root / "svhn", split=split) for split in ("train", "test"))
    images, other = (torch.from_numpy(data.data).contiguous() for data in (train, test))
    target, other_target = (torch.as_tensor(data.labels).long() for data in (train, test))
    return Pictures(images, target, other, other_target, [str(digit) for digit in range(10)])


class MiniImageNet(datasets.ImageFolder):
    """The ten classes of the 2018 text, in the order of its footnote, as squares of 256 pixels, uint8 (3, 256, 256)."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, transform=_square)

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        """Return the ten ids; the folder may hold all thousand."""
        found = [one for one in MINI_IMAGENET if (Path(directory) / one).is_dir()]
        check_classes(found, list(MINI_IMAGENET), directory)
        return found, {name: label for label, name in enumerate(found)}


def _square(image: Any) -> Tensor:
    image = transforms.resize(image, _SQUARE)
    return transforms.pil_to_tensor(transforms.center_crop(image, _SQUARE))


def _mini_imagenet(root: Path) -> Pictures:
    splits = []
    for split in ("train", "val"):
        kept = root / "imagenet" / f"mini-{split}.safetensors"
        if not kept.exists():
            files = MiniImageNet(root / "imagenet" / split)
            save_file({"images": torch.stack([x for x, _ in files]), "labels": torch.tensor(files.targets)}, kept)
        splits.append(load_file(kept))
    train, test = splits
    return Pictures(train["images"], train["labels"], test["images"], test["labels"], list(MINI_IMAGENET.values()))


# --------------------------------------------------------------------------------------------------------------- checks


def _opened(kind: type, folder: Path, **options: Any) -> Any:
    """Open a data set of torchvision, which compares the checksums of its files."""
    try:
        return kind(folder, **options)
    except (RuntimeError, ValueError, OSError) as error:
        refuse(f"the files of {kind.__name__} in '{folder}' are incomplete or damaged: get them anew ({error}).")


def _checked(name: str, pictures: Pictures) -> Pictures:
    """End the program if the labels are not those of the data set's classes."""
    classes = FORMS[name].num_classes
    for split, target in (("training", pictures.target), ("test", pictures.test_target)):
        found = target.unique()
        if len(found) != classes or int(found[0]) != 0 or int(found[-1]) != classes - 1:
            refuse(
                f"{name} must have labels 0 to {classes - 1}, and its {split} part has {len(found)} different ones"
                f" from {int(found[0])} to {int(found[-1])}: check the files under --data-root."
            )
    return pictures


def _resized(images: Tensor, side: int) -> Tensor:
    size = [side, side]
    return torch.cat([transforms.resize(part, size, antialias=True) for part in images.split(1000)])
