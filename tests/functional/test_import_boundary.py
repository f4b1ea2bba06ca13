"""`lightning_easiness.functional` loads torch and the standard library, nothing else."""

import subprocess
import sys

# Loaded modules after a bare `import torch` are torch's own affair; only what comes on top is ours.
_SCRIPT = """
import sys
import torch
before = set(sys.modules)
import lightning_easiness.functional
print("\\n".join(sorted(set(sys.modules) - before)))
"""


def _modules_on_top_of_torch() -> list[str]:
    result = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True, timeout=120)
    return result.stdout.split()


def test_functional_loads_torch_alone() -> None:
    top_level = {name.split(".")[0] for name in _modules_on_top_of_torch()}
    assert "lightning_easiness" in top_level
    assert top_level - {"lightning_easiness", "torch"} <= set(sys.stdlib_module_names)


def test_functional_loads_no_other_part_of_the_package() -> None:
    ours = [name for name in _modules_on_top_of_torch() if name.startswith("lightning_easiness")]
    allowed = ("lightning_easiness", "lightning_easiness.__about__", "lightning_easiness.functional")
    assert [name for name in ours if name not in allowed and not name.startswith(f"{allowed[-1]}.")] == []
