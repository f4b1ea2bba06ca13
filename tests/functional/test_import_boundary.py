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


def test_functional_loads_torch_and_itself_alone() -> None:
    result = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True, timeout=120)
    loaded = result.stdout.split()
    top_level = {name.split(".")[0] for name in loaded}
    assert top_level - {"lightning_easiness", "torch"} <= set(sys.stdlib_module_names)
    ours = {name for name in loaded if name.startswith("lightning_easiness")}
    parts = {name for name in ours if name.startswith("lightning_easiness.functional")}
    assert parts
    assert ours - parts <= {"lightning_easiness", "lightning_easiness.__about__"}
