"""What needs a CUDA device, in one run of less than ten minutes: its tests, no step that waits, memory, and the cost.

Runs `pytest -m gpu`, trains while torch raises at whatever waits for the device in a step, compares the device's memory
with and without the callback, and measures what observing adds to a step, an evaluation pass and an epoch. Writes
`benchmarks.json` and `benchmarks.md`, as run.py does, into `--output`, or else the folder that $OUT names. A part that
would begin after `--minutes` is left out, and named.

It needs no installation of the package beyond torch, torchvision, lightning, torchmetrics, tensorboard, safetensors,
pandas, matplotlib and scikit-learn; the tests need pytest, and those of one file hypothesis.

    PYTHONPATH=. python examples/benchmarks/gpu.py --output gpu
    PYTHONPATH=. python examples/benchmarks/gpu.py --device cpu      # tries the script itself, in small
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from measuring import begin, make_parser
from parts import Part
from run import has_failed, run
from table import rendered

DEVICES = ("cuda", "cpu")


def part(name: str, about: str, module: str, cuda: str | None, cpu: str | None) -> Part:
    return Part(name, about, module, {"cuda": cuda, "cpu": cpu})


PARTS = (
    part("tests", "tests that need a device", "gpu_tests", "", "--device cpu"),
    part("no step waits", "steps without waiting for the device", "gpu_steps", "", "--device cpu --steps 8 --size 64"),
    part(
        "step", "observing the training forward online", "online_overhead",
        "--accelerator gpu --model small_cnn resnet18 --steps 200 --pairs 5", "--step 0.7 --steps 8 --pairs 1",
    ),
    part(
        "pass", "an evaluation pass", "probe_share",
        "--accelerator gpu --examples 20000", "--model small_cnn --examples 64 --epochs 2",
    ),
    part("default", "EasinessCallback(), and a pass each epoch", "default_cost", "--accelerator gpu --pairs 3", None),
    part("device", "an epoch on data in the device's memory", "device_epoch", "--accelerator gpu --pairs 3", None),
    part(
        "side by side", "ten seeds side by side", "side_by_side",
        "--accelerator gpu --workers 5 --pairs 1", None,
    ),
)  # fmt: skip


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--device", choices=DEVICES, default="cuda")
    parser.add_argument("--output", type=Path, default=Path(os.environ.get("OUT", "benchmarks-gpu")))
    parser.add_argument("--only", choices=[part.name for part in PARTS], nargs="+", help="parts; by default all")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which no part begins; default: %(default)s")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device: run gpu.py where there is one, or try it with --device cpu.")
    begin("gpu" if given.device == "cuda" else "cpu")
    parts = [part for part in PARTS if given.only is None or part.name in given.only]
    found = run(parts, given.device, given.output, 60 * given.minutes)
    print(f"\n{rendered(found)}")
    raise SystemExit(has_failed(found))


if __name__ == "__main__":
    main()
