"""What a process has imported of which the processes of the tests are forks."""

from __future__ import annotations

from contextlib import suppress

import lightning.pytorch.cli  # noqa: F401
import torch

import lightning_easiness
import tests.contracts.cases
import tests.executed  # noqa: F401
from tests.quick import do_not_wait_for_the_disk, keep_what_is_imported, look_for_plugins_once

for name in lightning_easiness.__all__:  # each is loaded when it is first asked for
    getattr(lightning_easiness, name)
with suppress(ImportError):
    import matplotlib.pyplot  # noqa: F401
    import sklearn.datasets  # noqa: F401

torch.set_num_threads(1)
do_not_wait_for_the_disk()
look_for_plugins_once()
keep_what_is_imported()  # as none of the forks changes it, there are no copies of it either
