"""Repeats under FSDP2 whose shards are hurt between two fits, for tests/experiments/test_shards.py.

python -m tests.sharded_repeat <folder> <number of processes>: prints what came of each fit, in the first process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.fsdp import fully_shard

from lightning_easiness import repeat_fit
from tests.small import Net, loader, trainer

EPOCHS = 3


class Sharded(Net):
    def __init__(self, dies: bool = False) -> None:
        super().__init__()
        self.dies, self.is_sharded = dies, False

    def configure_model(self) -> None:
        if not self.is_sharded:
            self.is_sharded = True
            fully_shard(self.net, mesh=self.device_mesh["data_parallel"])

    def on_train_epoch_start(self) -> None:
        if self.dies and self.current_epoch == EPOCHS - 1:
            raise ArithmeticError("on purpose")


def repeat(folder: Path, number: int, dies: bool) -> str:
    def make_trainer() -> object:
        return trainer(strategy=ModelParallelStrategy(number, 1), devices=number, max_epochs=EPOCHS)

    try:
        repeat_fit(make_trainer, lambda: Sharded(dies), loader(), seeds=(1,), dirpath=folder, progress=False)
    except (ArithmeticError, ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "complete"


def main() -> None:
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    shard = folder / "seed-1/resume.ckpt/__0_0.distcp"
    said = [repeat(folder, number, dies=True)]
    if not int(os.environ.get("LOCAL_RANK", "0")):
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    said.append(repeat(folder, number, dies=False))
    if not int(os.environ.get("LOCAL_RANK", "0")):
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    said.append(repeat(folder, number, dies=False))
    if not int(os.environ.get("LOCAL_RANK", "0")):
        (folder / "said.txt").write_text("\n".join(said))


if __name__ == "__main__":
    main()
