"""One process of side_by_side.py: trains seeds of a small CNN into a folder, in turn or in the workers of a pool."""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from models import Classifier, small_cnn, synthetic_images
from torch.utils.data import DataLoader

from lightning_easiness import EasinessCallback, repeat_fit

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


def make_trainer(accelerator: str, epochs: int, devices: int | list[int] = 1) -> Trainer:
    options = {"accelerator": accelerator, "devices": devices if accelerator == "gpu" else 1, "max_epochs": epochs}
    return Trainer(**options, callbacks=[EasinessCallback(every_n_epochs=1)], **QUIET)


def make_module() -> Classifier:
    return Classifier(small_cnn())


def make_data(examples: int, batch_size: int) -> DataLoader:
    return DataLoader(synthetic_images("small_cnn", examples), batch_size, shuffle=True)


def make_pool(workers: int) -> ProcessPoolExecutor:
    """Make a pool whose workers have one thread each."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), required=True)
    for name in ("seeds", "workers", "threads", "examples", "epochs", "batch-size"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    repeat_fit(
        partial(make_trainer, given.accelerator, given.epochs),
        make_module,
        partial(make_data, given.examples, given.batch_size),
        range(given.seeds),
        given.folder,
        progress=False,
        executor=partial(make_pool, given.workers) if given.workers else None,
    )


if __name__ == "__main__":
    main()
