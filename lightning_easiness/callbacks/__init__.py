"""The callback that watches examples while a Trainer trains."""

from lightning_easiness.callbacks.easiness import EasinessCallback

__all__ = ["EasinessCallback"]
