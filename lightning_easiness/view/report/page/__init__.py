"""The page of the report: a template, its style and its scripts, put together into one file that needs no network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from lightning_easiness.__about__ import __version__
from lightning_easiness.data.decisions import FORMAT, VERSION
from lightning_easiness.view.report.columns import FRACTIONS, Columns
from lightning_easiness.view.report.packing import pack
from lightning_easiness.view.report.pictures import Pictures
from lightning_easiness.view.words import spoken

_LIBRARIES = ("uPlot", "tabulator")
_VENDORED = ("uPlot.iife.min.js", "tabulator.min.js")
_PARTS = ("data", "decisions", "charts", "views", "table", "inspector", "panels", "app")
_STYLES = ("vendor/uPlot.min.css", "vendor/tabulator.min.css", "style.css")
_SCRIPTS = tuple(f"{name}.js" for name in _PARTS)


def render(content: Mapping[str, Any], columns: Columns, rows: NDArray[np.int64], pictures: Pictures) -> str:
    """Put the page together from what it says, its columns over the examples in `rows`, and pictures."""
    packed = pack({"example": rows, **columns}, fractions=(*FRACTIONS, "hardness"))
    shape = {"num_rows": len(rows), "num_runs": len(content["runs"])}
    facts = {
        **{name: value for name, value in content.items() if name not in ("tiles", "notes", "findings", "classes")},
        **shape,
        "arrays": packed.arrays,
        "pictures": {"kind": pictures.kind, "examples": pictures.rows, "ends": pictures.ends},
        "texts": pictures.texts,
        "decisions": {"format": FORMAT, "version": VERSION},
    }
    return _template().render(
        content,
        facts=_json(facts),
        arrays=Markup(packed.text),
        pictures=Markup(pictures.text()),
        styles=Markup("\n".join(_read(name) for name in _STYLES)),
        libraries=[Markup(_read(f"vendor/{name}")) for name in _VENDORED],
        script=Markup("\n".join(_read(name) for name in _SCRIPTS)),
        licences=[(name, _read(f"vendor/{name}.LICENSE")) for name in _LIBRARIES],
        package_version=__version__,
        columns=columns,
        has_pictures=bool(pictures.rows or pictures.texts),
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"spoken": spoken}
    return environment.from_string(_read("page.html.j2"))


@cache
def _read(name: str) -> str:
    """Read a file of the page; without the line that names a source map, which a browser would ask for."""
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if not line.startswith("//# sourceMappingURL"))


def _json(value: Any) -> Markup:
    """Write JSON that can stand in a script element: no name can close it, and what is not finite is null."""
    text = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value
