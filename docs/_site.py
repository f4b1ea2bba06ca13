"""Hooks of mkdocs: images and results of the examples, and the changelog, become part of the site.

The pages link to them as they lie in the repository, so that the links also work where the pages are read as files.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
SHOWN = (
    "examples/images/*.png",
    "examples/results/*.md",
    "examples/results/*.png",
    "examples/results/*.csv",
    "examples/*.ipynb",
    "examples/paper/README.md",
    "examples/paper/images/*.png",
    "examples/paper/results/*.csv",
    "CHANGELOG.md",
)


def on_files(files: Files, config: Any) -> Files:
    """Add what the pages show of the repository, at the same paths."""
    for pattern in SHOWN:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to files of the repository into links within the site, and keep a value and its spread on one line."""
    markdown = markdown.replace(" ± ", "\u00a0±\u00a0")
    if page.file.src_uri.startswith("examples/"):
        return re.sub(r"\]\(\.\./\.\./docs/", "](../../", markdown)
    return re.sub(r"\]\(((?:\.\./)*)\.\./(?=examples/|CHANGELOG)", r"](\1", markdown)
