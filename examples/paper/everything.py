"""Every table and figure of the three texts, one after the other; what is finished is not trained again.

    python examples/paper/everything.py --data-root ROOT --output DIR              # the small settings
    python examples/paper/everything.py --setting full --dry-run                   # makes each network at full size

Further arguments are those of the scripts. Prints the seconds of each and its finding, and which failed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
TEXTS = ("count_", "loss_", "sel_")
BEYOND = ("seeds_needed.py", "small_for_large.py", "hard_examples.py")


def scripts() -> list[Path]:
    """Return the scripts of this folder that make a table or a figure, in the order of the texts."""
    made = [path for text in TEXTS for path in sorted(HERE.glob(f"{text}*.py")) if "def main()" in path.read_text()]
    return [*made, *(HERE / name for name in BEYOND)]


def main() -> None:
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        return
    failed = []
    for script in scripts():
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(script), *sys.argv[1:]], stdout=subprocess.PIPE, text=True, check=False
        )
        print(f"{script.name}: {time.perf_counter() - began:.0f} s; {done.stdout.strip()}", flush=True)
        if done.returncode != 0:
            failed.append(script.name)
    if failed:
        raise SystemExit(f"{Path(sys.argv[0]).name}: these ended with an error: {', '.join(failed)}")


if __name__ == "__main__":
    main()
