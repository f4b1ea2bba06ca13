"""The page in a browser: what it lists and draws, decisions by mouse and keyboard, and that nothing leaves it."""

from __future__ import annotations

import json
import re
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_easiness import EasinessRecord, Keep, LabelIssues, Report
from lightning_easiness.view.report.page import _read
from tests.labels.test_find import TARGET, N
from tests.made_runs import write_run
from tests.record.test_held_out import write as write_held_out
from tests.view.report.browser import Browser
from tests.view.report.conftest import HOSTILE

CELLS = "[...document.querySelectorAll('.tabulator-row [tabulator-field=example]')]"
LISTED = f"{CELLS}.map(cell => Number(cell.textContent))"
ORDER = "window.report.order().map(row => window.report.columns.example[row])"


def listed(browser: Browser) -> list[int]:
    """The examples of the list, all of them, in its order."""
    return browser.run(ORDER)


def view(browser: Browser, name: str) -> None:
    browser.click(f"[data-view={name}]")
    browser.wait_for(f"document.querySelector('[data-view={name}]').getAttribute('aria-pressed') === 'true'")


def downloaded(browser: Browser, folder: Path) -> Path:
    browser.download_to(folder)
    browser.click("#download")
    path = folder / "decisions.json"
    end = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    return path


# ------------------------------------------------------------------ what is shown


def test_nothing_is_asked_for_and_nothing_complained_of(shown: Browser) -> None:
    assert shown.requests() == []
    assert shown.errors() == []


def test_the_page_itself_forbids_requests(shown: Browser) -> None:
    outcome = "fetch('http://127.0.0.1:9/').then(() => 'sent', error => 'refused')"
    assert shown.run(outcome) == "refused"
    assert "Content Security Policy" in " ".join(shown.errors())


def test_suspects_are_listed_first_the_most_suspicious_on_top(shown: Browser, issues: LabelIssues) -> None:
    assert listed(shown) == issues.flagged.tolist()
    assert shown.run(LISTED)[:3] == issues.flagged[:3].tolist()
    assert shown.run("document.querySelector('h1').textContent") == f"{len(issues.flagged)} of {N} labels look wrong"


def test_names_are_text_wherever_they_stand(shown: Browser) -> None:
    view(shown, "all")
    shown.click(".tabulator-row")
    assert shown.run("window.hacked") is None
    assert shown.run("document.querySelectorAll('main img[src=x], main b').length") == 0
    assert HOSTILE in shown.run("document.querySelector('.eyebrow').textContent")
    assert HOSTILE in shown.run("document.querySelector('.notes').textContent")
    assert HOSTILE in shown.run("document.querySelector('#classes').textContent")
    assert HOSTILE in shown.run("document.querySelector('#filter-class').textContent")
    assert HOSTILE in shown.run("document.querySelector('#table').textContent")
    assert HOSTILE in shown.run("document.querySelector('#relabel-to').textContent")


def test_the_chosen_example_has_its_picture_and_its_labels(shown: Browser, report: Report) -> None:
    first = listed(shown)[0]
    text = shown.run("document.querySelector('#inspector').textContent")
    assert f"Example {first}" in text
    given = report.class_names[int(TARGET[first])]
    assert given in text
    source = shown.run("document.querySelector('#inspector img').src")
    assert source.startswith("blob:")
    shown.wait_for("document.querySelector('#inspector img').naturalWidth === 8")


@pytest.mark.parametrize(
    ("name", "column", "sign"), [("hardest", "rank", 1), ("easiest", "rank", -1), ("ambiguous", "variability", -1)]
)
def test_a_view_lists_a_tenth_of_the_examples(
    shown: Browser, report: Report, name: str, column: str, sign: int
) -> None:
    view(shown, name)
    found = listed(shown)
    expected = np.argsort(sign * report.columns[column], kind="stable")[:6]
    assert found == expected.tolist()


def test_every_plot_has_something_drawn(shown: Browser) -> None:
    drawn = "c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 === 3 && v).length"
    plots = shown.run(f"[...document.querySelectorAll('.plot canvas')].map(c => {drawn})")
    assert len(plots) == 5
    assert min(plots) > 1000


# ------------------------------------------------------------------ lasso, brush, sort


def test_a_line_drawn_around_points_lists_exactly_these(shown: Browser, report: Report) -> None:
    confidence, variability = report.columns["confidence"], report.columns["variability"]
    low, high = float(np.quantile(confidence, 0.2)), float(np.quantile(confidence, 0.6))
    shown.centre("#map")
    corners = shown.run(f"window.report.places([[-0.005, {low}], [0.3, {low}], [0.52, {high}], [-0.005, {high}]])")
    path = [
        tuple(np.array(a) + (np.array(b) - a) * part)
        for a, b in zip(corners, [*corners[1:], corners[0]], strict=True)
        for part in (0, 0.5)
    ]
    shown.drag([*path, path[0]])
    shown.wait_for("document.querySelector('[data-view=selected]').getAttribute('aria-pressed') === 'true'")
    edge = 0.52 - (variability - 0.3) * 0  # the right side runs from (0.3, low) to (0.52, high)
    right = 0.3 + (confidence - low) / (high - low) * (edge - 0.3)
    inside = (confidence > low + 0.004) & (confidence < high - 0.004) & (variability < right - 0.004)
    near = (confidence > low - 0.004) & (confidence < high + 0.004) & (variability < right + 0.004)
    found = set(listed(shown))
    assert set(inside.nonzero()[0].tolist()) <= found <= set(near.nonzero()[0].tolist())
    assert len(found) >= 10
    hard_first = [report.columns["rank"][example] for example in listed(shown)]
    assert hard_first == sorted(hard_first)


def test_a_click_on_a_point_chooses_it(shown: Browser) -> None:
    view(shown, "all")
    shown.centre("#map")
    row = 41
    point = f"[window.report.columns.variability[{row}], window.report.columns.confidence[{row}]]"
    x, y = shown.run(f"window.report.places([{point}])[0]")
    shown.drag([(x, y)])
    assert shown.run("window.report.current()") == row


def test_dragging_over_bars_lists_their_examples(shown: Browser, report: Report) -> None:
    shown.centre("#histogram")
    over = "document.querySelector('#histogram .u-over').getBoundingClientRect()"
    box = shown.run(f"(({{x, y, width, height}}) => [x, y, width, height])({over})")
    middle = box[1] + box[3] / 2
    shown.drag([(box[0] + box[2] / 2, middle), (box[0] + box[2] * 0.8, middle), (box[0] + box[2] - 1, middle)])
    shown.wait_for("document.querySelector('[data-view=selected]').getAttribute('aria-pressed') === 'true'")
    scores = report.columns["score"]
    half = (scores.min() + scores.max()) / 2
    expected = set((scores > half).nonzero()[0].tolist())
    assert len(expected ^ set(listed(shown))) <= 1  # one pixel


def test_a_click_on_a_header_sorts_and_another_turns_round(shown: Browser, report: Report) -> None:
    view(shown, "all")
    order = np.argsort(report.columns["score"], kind="stable").tolist()
    header = ".tabulator-col[tabulator-field=score] .tabulator-col-title"
    shown.click(header)
    assert listed(shown) == order
    shown.click(header)
    assert listed(shown) == order[::-1]
    assert shown.run(LISTED)[:3] == order[::-1][:3]


def test_a_label_filters_the_list_and_a_number_finds_an_example(shown: Browser) -> None:
    view(shown, "all")
    shown.run("(e => { e.value = '2'; e.dispatchEvent(new Event('change')) })(document.querySelector('#filter-class'))")
    assert listed(shown) == (TARGET == 2).nonzero()[:, 0].tolist()
    shown.run("(e => { e.value = '41'; e.dispatchEvent(new Event('change')) })(document.querySelector('#go-to'))")
    shown.wait_for("window.report.current() === 41")


# ------------------------------------------------------------------ decisions


def test_decisions_by_keyboard_come_back_as_a_selection(shown: Browser, issues: LabelIssues, tmp_path: Path) -> None:
    first, second, third = issues.flagged[:3].tolist()
    shown.click(".tabulator-row")
    for key in ("d", "k", "r"):
        shown.press(key)
    shown.press("ArrowDown")
    shown.press("ArrowUp")
    shown.press("d")
    shown.press("u")
    file = json.loads(downloaded(shown, tmp_path).read_text())
    made = {row["example"]: row["decision"] for row in file["decisions"]}
    assert made == {first: "drop", second: "keep", third: "relabel"}  # the fourth is undone
    assert all(row["given"] == int(TARGET[row["example"]]) for row in file["decisions"])
    keep = Keep.from_decisions(tmp_path / "decisions.json")
    assert keep.indices.tolist() == [example for example in range(N) if example != first]
    assert keep.new_labels[third] == issues.suggested[2]
    assert (keep.new_labels >= 0).sum() == 1


def test_a_new_label_chosen_by_mouse_is_in_the_file(shown: Browser, tmp_path: Path) -> None:
    view(shown, "all")
    shown.click(".tabulator-row")
    shown.run("(e => { e.value = '2'; e.dispatchEvent(new Event('change')) })(document.querySelector('#relabel-to'))")
    shown.click(".tabulator-row:nth-child(2) button.drop")
    shown.click(".tabulator-row:nth-child(3) button.drop")
    shown.click(".tabulator-row:nth-child(3) button.drop")  # takes it back
    assert shown.run("document.querySelector('#decided-count').textContent") == "1 dropped, 1 relabelled"
    keep = Keep.from_decisions(downloaded(shown, tmp_path))
    assert keep.indices.tolist() == [0, *range(2, N)]
    assert keep.new_labels.tolist() == [2] + [-1] * (N - 1)


def test_decisions_outlive_a_reload_and_can_be_forgotten(shown: Browser, page: Path) -> None:
    shown.click(".tabulator-row")
    shown.press("d")
    shown.open(page)
    assert shown.run("document.querySelector('#decided-count').textContent") == "1 dropped"
    shown.run("window.confirm = () => true")
    shown.click("#forget")
    shown.open(page)
    assert shown.run("document.querySelector('#decided-count').textContent") == "No decisions yet"


def upload(browser: Browser, path: Path, problem: str, decided: str) -> None:
    """Choose a file, and wait until the page says what it should."""
    root = browser.send("DOM.getDocument")["root"]["nodeId"]
    node = browser.send("DOM.querySelector", nodeId=root, selector="#upload")["nodeId"]
    browser.send("DOM.setFileInputFiles", files=[str(path)], nodeId=node)
    said = f"document.querySelector('#problem').textContent.includes({json.dumps(problem)})"
    browser.wait_for(f"{said} && document.querySelector('#decided-count').textContent === {json.dumps(decided)}")


def test_a_saved_file_is_continued_and_one_of_other_data_is_refused(shown: Browser, page: Path, tmp_path: Path) -> None:
    shown.click(".tabulator-row")
    shown.press("k")
    path = downloaded(shown, tmp_path)
    shown.run("localStorage.clear()")
    shown.open(page)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**json.loads(path.read_text()), "fingerprints": {"targets": "0123456789abcdef"}}))
    upload(shown, other, "of another data set", "No decisions yet")
    other.write_text("no JSON")
    upload(shown, other, "no JSON file", "No decisions yet")
    upload(shown, path, "", "1 kept")
    assert shown.run("document.querySelector('#problem').textContent") == ""


def test_all_can_be_done_without_a_mouse(shown: Browser, issues: LabelIssues) -> None:
    shown.run("document.querySelector('.tabulator-tableholder').focus()")
    shown.press("ArrowDown")
    shown.press("d")
    second, third = issues.flagged[1:3].tolist()
    assert shown.run("[...window.report.decisions.made.keys()]") == [second]
    assert shown.run("window.report.current()") == third  # moved on
    said = shown.run("document.querySelector('#announce').textContent")
    assert said.startswith(f"Example {third}, given label ")


def test_keys_do_nothing_while_the_chosen_example_is_out_of_sight(shown: Browser) -> None:
    shown.run("document.activeElement.blur(); window.scrollTo({top: document.body.scrollHeight, behavior: 'instant'})")
    shown.press("d")
    assert shown.run("window.report.decisions.made.size") == 0


def test_keys_in_a_field_are_text(shown: Browser) -> None:
    shown.click("#go-to")
    shown.press("d")
    assert shown.run("document.querySelector('#decided-count').textContent") == "No decisions yet"


# ------------------------------------------------------------------ every width, scheme and reader


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 390, 768, 1440])
def test_nothing_is_wider_than_the_window(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.show(width, dark=dark)
    browser.open(page)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("matchMedia('(prefers-color-scheme: dark)').matches") is dark


def test_a_phone_can_decide(browser: Browser, page: Path) -> None:
    browser.show(390, 844)
    browser.open(page)
    browser.run("localStorage.clear()")
    browser.open(page)
    browser.click("#inspector button.drop")
    assert browser.run("document.querySelector('#decided-count').textContent") == "1 dropped"
    browser.run("localStorage.clear()")


def test_a_finger_can_draw_around_points(browser: Browser, page: Path) -> None:
    browser.show(390, 844)
    browser.open(page)
    browser.centre("#map")
    corners = browser.run("window.report.places([[0.01, 0.3], [0.2, 0.28], [0.45, 0.3], [0.45, 0.9], [0.01, 0.9]])")
    steps = [(a, b, part) for a, b in pairwise(corners) for part in (0, 0.25, 0.5, 0.75)]
    browser.swipe([(a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part) for a, b, part in steps])
    browser.wait_for("document.querySelector('[data-view=selected]').getAttribute('aria-pressed') === 'true'")
    assert len(listed(browser)) > 20


def test_a_phone_sorts_by_a_choice(browser: Browser, page: Path, report: Report) -> None:
    browser.show(390, 844)
    browser.open(page)
    view(browser, "all")
    browser.run(
        "(e => { e.value = 'score'; e.dispatchEvent(new Event('change')) })(document.querySelector('#sort-by'))"
    )
    assert listed(browser) == np.argsort(-report.columns["score"], kind="stable").tolist()


def test_everything_that_can_be_used_has_a_name(shown: Browser) -> None:
    shown.send("Accessibility.enable")
    nodes = shown.send("Accessibility.getFullAXTree")["nodes"]
    used = {"button", "textbox", "combobox", "image", "img", "link", "grid", "columnheader", "figure"}
    seen: set[str] = set()
    for node in nodes:
        role = node.get("role", {}).get("value")
        if role in used and not node.get("ignored"):
            name = node.get("name", {}).get("value", "").strip()
            is_picture_column = role == "columnheader" and not name
            assert name or is_picture_column, (role, node)
            seen.add(role)
    assert {"button", "combobox", "textbox", "link", "columnheader"} <= seen


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * each for each in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_stands_out_from_its_ground_as_wcag_asks(scheme: int) -> None:
    colours = [
        dict(re.findall(r"--([a-z]+): (#[0-9a-f]+)", block))
        for block in re.findall(r":root \{(.*?)\}", _read("style.css"), re.S)
    ][scheme]
    pairs = [(text, ground, 4.5) for text in ("ink", "muted") for ground in ("ground", "card", "hover")]
    pairs += [(text, "card", 4.5) for text in ("easy", "alarm", "keep", "relabel")]
    pairs += [(colour, "card", 3.0) for colour in ("easy", "hard")]
    for text, ground, least in pairs:
        light, dim = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dim + 0.05) >= least, (text, ground)


# ------------------------------------------------------------------ other records


def opened(browser: Browser, report: Report, folder: Path) -> Browser:
    browser.events.clear()
    browser.show()
    browser.open(report.save(folder / "page.html"))
    assert browser.errors() == []
    return browser


def test_one_run_of_one_checkpoint_says_what_is_missing(browser: Browser, tmp_path: Path) -> None:
    write_run(tmp_path, 0, steps=(10,), target=None, num_classes=None, fields={"loss": torch.rand(37)})
    text = opened(browser, Report.of(EasinessRecord.load(tmp_path)), tmp_path).run("document.body.innerText")
    for part in ("No data map", "No training curves", "One run: the spread over seeds is not known", "repeat_fit"):
        assert part in text
    assert "every_n_epochs=1" in text


def test_without_labels_nothing_speaks_of_labels(browser: Browser, tmp_path: Path) -> None:
    write_run(tmp_path, 0, steps=(10, 20), target=None, num_classes=None, fields={"loss": torch.rand(37)})
    page = opened(browser, Report.of(EasinessRecord.load(tmp_path)), tmp_path)
    text = page.run("document.querySelector('#review').innerText")
    assert "Given" not in text
    assert "relabel" not in text.lower()
    page.run("document.querySelector('.tabulator-tableholder').focus()")
    page.press("r")
    assert page.run("window.report.decisions.made.size") == 0


def test_decisions_on_a_sample_name_examples_of_the_whole(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_run(tmp_path / "record", 0)
    monkeypatch.setattr("lightning_easiness.view.report.report._MOST_EXAMPLES", 20)
    monkeypatch.setattr("lightning_easiness.view.report.report._SAMPLE", 10)
    made = Report.of(EasinessRecord.load(tmp_path / "record"))
    page = opened(browser, made, tmp_path)
    view(page, "all")
    last = int(made.rows[-1])
    page.run(f"(e => {{ e.value = '{last}'; e.dispatchEvent(new Event('change')) }})(document.querySelector('#go-to'))")
    page.wait_for("window.report.current() === 9")
    page.click("#inspector button.drop")
    keep = Keep.from_decisions(downloaded(page, tmp_path))
    assert keep.indices.tolist() == [example for example in range(37) if example != last]
    page.run("localStorage.clear()")


@pytest.mark.filterwarnings("always")
def test_memorization_and_held_out_predictions_are_shown(browser: Browser, tmp_path: Path) -> None:
    made = Report.of(EasinessRecord.load(write_held_out(tmp_path / "record", 0, 1, 2)))
    page = opened(browser, made, tmp_path)
    assert "of the examples look memorized, and about" in page.run("document.querySelector('#memorized').textContent")
    view(page, "memorized")
    expected = (np.nan_to_num(made.columns["memorization"]) >= 0.5).nonzero()[0].tolist()
    assert sorted(listed(page)) == expected
    page.run("(e => { e.value = '4'; e.dispatchEvent(new Event('change')) })(document.querySelector('#go-to'))")
    page.wait_for("window.report.current() === 4")
    likely = made.columns["held_out_prediction"][4], made.columns["held_out_probability"][4]
    assert f"Held out{likely[0]} ({likely[1]:.2f})" in page.run("document.querySelector('#inspector dl').textContent")


def test_texts_stand_in_for_pictures(browser: Browser, record: EasinessRecord, tmp_path: Path) -> None:
    texts = [f"{HOSTILE} number {i}" for i in range(N)]
    page = opened(browser, Report.of(record, dataset=texts), tmp_path)
    assert "number" in page.run("document.querySelector('#inspector').textContent")
    assert HOSTILE in page.run("document.querySelector('#table').textContent")
    assert page.run("window.hacked") is None


def test_a_thousand_classes_can_be_chosen_from(browser: Browser, tmp_path: Path) -> None:
    fields = {"loss": torch.rand(1000), "correct": torch.rand(1000) > 0.5}
    for seed in range(2):
        write_run(tmp_path, seed, num_examples=1000, target=torch.arange(1000), num_classes=1000, fields=fields)
    names = [f"class number {i}" for i in range(1000)]
    page = opened(browser, Report.of(EasinessRecord.load(tmp_path), class_names=names), tmp_path)
    assert page.run("document.querySelectorAll('#relabel-to option').length") == 1001
    assert page.run("document.querySelectorAll('#classes tbody tr').length") == 20
    assert "the 20 worst of 1,000" in page.run("document.querySelector('#classes-title').textContent")


def test_pictures_that_cannot_be_read_are_said_to_be(browser: Browser, record: EasinessRecord, tmp_path: Path) -> None:
    class Broken(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            raise OSError("no such file")

    text = opened(browser, Report.of(record, dataset=Broken(range(N))), tmp_path).run("document.body.innerText")
    assert f"{N} examples could not be read from the data set" in text
    assert "OSError: no such file" in text


def test_kept_and_dropped_are_compared(browser: Browser, record: EasinessRecord, tmp_path: Path) -> None:
    page = opened(browser, Report.of(record, kept=torch.arange(40)), tmp_path)
    assert "40 of 60 examples were kept (66.7 %)" in page.run("document.querySelector('#kept').textContent")
    view(page, "dropped")
    assert sorted(listed(page)) == list(range(40, 60))


def test_the_examples_that_moved_between_two_runs_are_listed(shown: Browser, report: Report) -> None:
    shown.run("(e => { e.value = '2'; e.dispatchEvent(new Event('change')) })(document.querySelector('#run-b'))")
    shown.click("#list-moved")
    shown.wait_for("document.querySelector('[data-view=moved]').getAttribute('aria-pressed') === 'true'")
    gap = np.abs(report.hardness[0] - report.hardness[2])
    expected = set((gap >= 0.25).nonzero()[0].tolist())
    assert set(listed(shown)) == expected
    assert str(len(expected)) in shown.run("document.querySelector('#versus-title').textContent")
