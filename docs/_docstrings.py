"""How docstrings are read for the site: the project writes "Example:" where griffe's Google style has "Examples:"."""

from __future__ import annotations

import re
from typing import Any

import griffe


class SingularExamples(griffe.Extension):
    """Reads the section "Example:" of a docstring as code and its output, not as a note."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section of an object that was just read."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
