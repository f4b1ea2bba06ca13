"""All benchmarks by one command: each part runs, the table says what the JSON says, and a missing peer is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.examples import EXAMPLES
from tests.processes import run

BENCHMARKS = EXAMPLES / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _path() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


def cells_of(table: str) -> list[list[str]]:
    """Return the rows of the one table of a page, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


# ------------------------------------------------------------------------------------------------------------ the rows


@pytest.mark.parametrize(
    ("values", "unit", "written"),
    [
        ([0.001, 0.002, 0.004], "s", "2 (1 to 4) ms"),
        ([0.00005], "s", "50 us"),
        ([1234.5], "s", "1,234 s"),
        ([1e-7, 2e-7, -3e-7], "s", "0.1 (-0.3 to 0.2) us"),
        ([0.5, 1.5], "", "1 (0.5 to 1.5)"),
        ([3.2e9], "bytes", "3.2 GB"),
        ([7.25], "bytes", "7.25 bytes"),
    ],
)
def test_a_figure_is_its_median_and_its_range(values: list[float], unit: str, written: str) -> None:
    from figures import Figure

    assert str(Figure.of(values, unit)) == written


@pytest.mark.parametrize(
    ("values", "limit", "verdict"),
    [
        ([1.0, 2.0, 3.0], 3.5, "met"),
        ([1.0, 2.0, 3.0], 2.5, "met*"),
        ([1.0, 2.0, 3.0], 1.5, "missed*"),
        ([1.0, 2.0, 3.0], 0.5, "missed"),
        ([2.0], 2.0, "met"),
        ([2.0], None, ""),
    ],
)
def test_the_verdict_is_that_of_the_median(values: list[float], limit: float | None, verdict: str) -> None:
    from figures import Figure, Row

    assert Row("it", Figure.of(values), limit).verdict == verdict


def test_a_row_comes_back_from_json() -> None:
    from figures import Figure, Peer, Row

    figure = Figure.of([1.0, 2.0])
    rows = [
        Row("a", figure, 3.0, Peer("x 1.0", figure, "2 times ours"), "note", "part", "command"),
        Row("b", None, peer=Peer("y", note="is not installed")),
        Row("c", None, note="failed: ValueError: no"),
    ]
    for row in rows:
        assert Row.from_dict(json.loads(json.dumps(row.as_dict()))) == row


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("", "made_up_peer 1.5"),
        (None, "pip install"),
        ("import another_that_is_missing", "cannot be imported without another_that_is_missing"),
        ("raise ImportError('libmagic is missing')", "cannot be imported: libmagic is missing"),
    ],
)
def test_a_peer_that_cannot_be_used_is_named(
    code: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import figures

    monkeypatch.delitem(sys.modules, "made_up_peer", raising=False)
    monkeypatch.setattr(figures, "version", lambda name: "1.5")
    monkeypatch.syspath_prepend(str(tmp_path))
    if code is not None:
        (tmp_path / "made_up_peer.py").write_text(code)
    module, peer = figures.installed("made_up_peer")
    assert (module is not None) == (code == "")
    assert str(peer).startswith("made_up_peer")
    assert said in str(peer)


def test_a_table_is_put_between_the_markers_of_a_page(tmp_path: Path) -> None:
    from table import BEGIN, END, put_between_markers

    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for text in ("new", "newer"):
        put_between_markers(text, page)
        assert page.read_text() == f"before\n{BEGIN}\n\n{text}\n{END}\nafter\n"
    page.write_text("no markers")
    with pytest.raises(SystemExit, match="needs the lines"):
        put_between_markers("new", page)


@pytest.mark.multiprocess
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a new process's peak begins as its parent's")
def test_the_peak_of_a_new_process_is_its_own() -> None:
    import apart

    large = bytearray(300_000_000)
    large[::4096] = bytes([1]) * len(large[::4096])  # so that there are pages of it
    assert apart.peak_bytes() > 3e8
    assert apart.in_process(apart.peak_bytes) < apart.peak_bytes() - 2e8


# -------------------------------------------------------------------------------------------------------------- it all


def test_each_part_has_a_script_that_takes_its_options() -> None:
    import importlib
    import shlex

    from parts import MODES, PARTS

    assert len({part.name for part in PARTS}) == len(PARTS)
    for part in PARTS:
        assert set(part.options) == set(MODES)
        for options in filter(None, part.options.values()):
            importlib.import_module(part.module).parser().parse_args(shlex.split(options))


def test_a_part_that_fails_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    import run as entry
    from parts import Part

    options = dict.fromkeys(("quick", "full", "tiny"), "")
    (row,) = entry.rows_of(Part("gone", "what is not there", "no_such_script", options), "tiny")
    assert row.note == "failed: ModuleNotFoundError: No module named 'no_such_script'"
    assert entry.has_failed({"rows": [row.as_dict()]})
    assert not entry.has_failed({"rows": []})


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_command_gives_one_table(tmp_path: Path) -> None:
    """All in a tiny size, where the peers are not installed; what they say of it replaces what may be installed."""
    from parts import PARTS

    missing = ("aum", "cleanlab", "datacull", "datagnosis")
    for name in missing:
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('no', name={name!r})")
    options = ["--mode", "tiny", "--output", tmp_path / "out"]
    done = run(BENCHMARKS / "run.py", *options, time_limit=580, PYTHONPATH=str(tmp_path), PYTHONWARNINGS="ignore")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out" / "benchmarks.json").read_text())
    page = (tmp_path / "out" / "benchmarks.md").read_text()
    assert page in done.stdout
    rows = found["rows"]
    assert [*dict.fromkeys(row["part"] for row in rows)] == [
        part.name for part in PARTS if part.options["tiny"] is not None
    ]
    assert len({(row["part"], row["what"]) for row in rows}) == len(rows)
    said = " ".join(str(row["peer"]) for row in rows)
    for name in missing:
        assert f"'{name}', 'figure': None, 'note': 'is not installed: pip install {name}" in said
    for row, cells in zip(rows, cells_of(page), strict=True):
        assert cells[0] == row["part"]
        assert cells[1] == row["what"]
        assert cells[4] == row["verdict"]
        assert bool(cells[2]) == (row["figure"] is not None)
        assert bool(cells[3]) == (row["limit"] is not None)
        assert not row["note"].startswith("failed")
