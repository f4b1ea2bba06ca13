"""Checks of options, made before a record is read or anything is printed."""

from __future__ import annotations

from pathlib import Path


def check_output(path: Path | None, *suffixes: str) -> None:
    """Raise a ValueError for a file of another kind, an ImportError for one that cannot be written."""
    if path is not None and path.suffix not in suffixes:
        raise ValueError(f"The file must end in {' or '.join(suffixes)}; got '{path}'.")
    if path is not None and path.suffix == ".parquet":
        from lightning_easiness._utils.tables import check_parquet

        check_parquet("A .parquet file")


def check_at_least(option: str, value: int, least: int) -> None:
    """Raise a ValueError for a number that is too small."""
    if value < least:
        raise ValueError(f"--{option} must be at least {least}; got {value}.")


def check_fraction(option: str, value: float, rows: str | None = None) -> None:
    """Raise a ValueError for a fraction that is not in (0, 1]; `rows` is the option that takes a number of rows."""
    if not 0 < value <= 1:
        ways = _as_percent(option, value)
        if rows and ways and value == int(value):
            ways += f", for {value:g} rows {rows} {value:g}"
        raise ValueError(f"--{option} must be in (0, 1], a fraction of the examples; got {value:g}{ways}.")


def check_ratio(ratio: float) -> None:
    """Raise a ValueError for a fraction to remove that is not in [0, 1)."""
    if not 0 <= ratio < 1:
        raise ValueError(
            f"--ratio must be in [0, 1), the fraction to remove; got {ratio:g}{_as_percent('ratio', ratio)}."
        )


def _as_percent(option: str, value: float) -> str:
    return f": for {value:g} % write --{option} {value / 100:g}" if 1 < value <= 100 else ""
