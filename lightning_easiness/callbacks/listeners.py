"""`Listeners`: functions that are called with every observation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lightning_easiness.data.observation import Observation
from lightning_easiness.observe.tasks import PROBE_FIELDS

Listener = Callable[[Observation], None]


class Listeners:
    """The listeners of an EasinessCallback, in order, each with the fields that it asks for in the training forward."""

    def __init__(self) -> None:
        self._held: list[tuple[Listener, tuple[str, ...]]] = []

    def __len__(self) -> int:
        return len(self._held)

    def __call__(self, observation: Observation) -> None:
        """Call them all."""
        for listener, _ in self._held:
            listener(observation)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that they ask for."""
        return tuple(name for _, fields in self._held for name in fields)

    def add(self, listener: Listener, fields: Sequence[str]) -> None:
        """Add one; raise a ValueError if there is no such field."""
        for name in fields:
            if name not in PROBE_FIELDS:
                raise ValueError(f"EasinessCallback observes {', '.join(PROBE_FIELDS)}, but no {name!r}.")
        self._held.append((listener, tuple(fields)))

    def remove(self, listener: Listener) -> None:
        """Remove one, and the fields that it alone asks for."""
        self._held = [(one, fields) for one, fields in self._held if one != listener]


class HasListeners:
    """What functions subscribe to."""

    _listeners: Listeners

    def subscribe(self, listener: Listener, online: Sequence[str] = ()) -> None:
        """Call a function with every complete observation, in every process.

        Args:
            listener: Function of an `Observation`.
            online: More fields to observe in the training forward, from the next fit on: "sample_easiness",
                "weakest_comparison", "el2n".

        Raises:
            ValueError: If there is no such field.
        """
        self._listeners.add(listener, online)

    def unsubscribe(self, listener: Listener) -> None:
        """Remove a listener; fields requested only by it are no longer observed from the next fit on."""
        self._listeners.remove(listener)
