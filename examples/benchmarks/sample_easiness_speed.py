"""How long does sample easiness take: exact, by Monte Carlo, and compared with the forward pass of a ResNet-18?

python examples/benchmarks/sample_easiness_speed.py
"""

from __future__ import annotations

import torch
from measuring import Clock, begin, clock_parser, decision, in_turns, load, median_ratio, spread_of_ratios
from models import small_resnet18

from lightning_easiness.functional import sample_easiness


def main() -> None:
    parser = clock_parser(__doc__)
    parser.add_argument("--examples", type=int, default=60_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    begin(arguments.accelerator)
    clock = Clock(arguments.clock, arguments.accelerator)
    device = "cuda" if arguments.accelerator == "gpu" else "cpu"
    generator = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(arguments.examples, arguments.classes, generator=generator)).to(device)
    target = torch.randint(arguments.classes, (arguments.examples,), generator=generator).to(device)
    sample_easiness(logits, target)

    def exact() -> float:
        return clock.time(lambda: [sample_easiness(logits, target) for _ in range(10)]) / 10

    pairs = in_turns(exact, lambda: clock.time(lambda: sample_easiness(logits, target, method="monte_carlo")), 3)
    print(f"{arguments.examples:,} x {arguments.classes}: exact {pairs[0].subject * 1e3:.1f} ms, ", end="")
    print(f"1,000 draws {pairs[0].baseline:.2f} s; exact / draws {1 / median_ratio(pairs):.0f} times faster", end="   ")
    print(decision(median_ratio(pairs), 1 / 300))

    model, images = small_resnet18().eval().to(device), torch.randn(128, 3, 32, 32, generator=generator).to(device)
    with torch.no_grad():
        model(images)

        def easiness() -> float:
            return clock.time(lambda: [sample_easiness(logits[:128], target[:128]) for _ in range(100)]) / 100

        pairs = in_turns(easiness, lambda: clock.time(lambda: model(images)), arguments.pairs)
    print(f"a batch of 128: exact / forward of a ResNet-18 {spread_of_ratios(pairs)}   ", end="")
    print(decision(median_ratio(pairs), 0.01))
    print(f"\n{load()} at the end")


if __name__ == "__main__":
    main()
