"""Which of my training examples are easy, hard, redundant or wrong? A plugin for PyTorch Lightning.

Names are loaded when they are first used, so that `import lightning_easiness.functional` loads torch alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_easiness.__about__ import __version__

if TYPE_CHECKING:
    from lightning_easiness.callbacks import EasinessCallback
    from lightning_easiness.record import EasinessRecord
    from lightning_easiness.repeats import repeat_fit
    from lightning_easiness.scores import Scores

_HOMES = {
    "EasinessCallback": "lightning_easiness.callbacks",
    "EasinessRecord": "lightning_easiness.record",
    "Scores": "lightning_easiness.scores",
    "repeat_fit": "lightning_easiness.repeats",
}

__all__ = ["EasinessCallback", "EasinessRecord", "Scores", "__version__", "repeat_fit"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
