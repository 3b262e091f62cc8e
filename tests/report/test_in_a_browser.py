"""The page as a browser shows it: everything is drawn, nothing is fetched, nothing complains."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pgolf_codec.eval.foreign import Text
from pgolf_codec.eval.report import report, report_predictor

SIZES = {"wide": (1200, False), "dark": (1200, True), "phone": (390, False)}
"""Width in pixels, and whether the reader prefers dark."""

_SHOWN = """(() => {
  const seen = (selector) => [...document.querySelectorAll(selector)].filter((element) => {
    const box = element.getBoundingClientRect();
    return box.width > 0 && box.height > 0;
  }).length;
  const path = (selector) => {
    const found = document.querySelector(selector);
    return found === null ? 0 : found.getTotalLength();
  };
  return {
    cells: seen(".heat.tall i"), passages: seen(".passages figure"), bars: seen("td svg rect"),
    rows: seen("table tr"), curve: path("path.curve"), mean: path("path.mean"),
    stacks: seen(".stack rect"), headings: seen("h2"), scripts: document.scripts.length,
    overflow: document.documentElement.scrollWidth - window.innerWidth,
    ink: getComputedStyle(document.body).color,
    paper: getComputedStyle(document.body).backgroundColor,
  };
})()"""


@pytest.fixture
def page(prose: bytes, stand_in_models: ModuleType, tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_bytes(prose)
    target = tmp_path / "page.html"
    target.write_text(report(path, model=stand_in_models.load_model()).html, encoding="utf-8")
    return target


@pytest.mark.parametrize("size", SIZES)
def test_page_is_drawn(browser: Any, page: Path, size: str, tmp_path: Path) -> None:
    width, dark = SIZES[size]
    browser.open(page, width=width, dark=dark)
    shown = browser.evaluate(_SHOWN)
    browser.picture(tmp_path / f"{size}.png")
    assert browser.said == []
    assert [url for url in browser.requested if not url.startswith("data:")] == [page.as_uri()]
    assert shown["cells"] > 500
    assert shown["passages"] == 8
    assert shown["headings"] >= 6
    assert shown["rows"] >= 12
    assert shown["stacks"] >= 12
    assert shown["curve"] > 500
    assert shown["mean"] > 500
    assert shown["scripts"] == 0
    assert shown["overflow"] <= 0
    assert (shown["bars"] > 5) == (width > 700)  # a phone has no room for them
    bright = [sum(map(int, shown[part][4:-1].split(","))) for part in ("ink", "paper")]
    assert (bright[0] > bright[1]) == dark
    assert (tmp_path / f"{size}.png").stat().st_size > 20_000


def test_page_of_a_predictor_is_drawn(browser: Any, prose: bytes, tmp_path: Path) -> None:
    text = Text((prose[:900], prose[900:1500]))
    target = tmp_path / "page.html"
    made = report_predictor("pgolf_codec.eval.ngrams:NGrams", text)
    target.write_text(made.html, encoding="utf-8")
    browser.open(target, width=1200)
    shown = browser.evaluate(_SHOWN)
    assert browser.said == []
    assert [url for url in browser.requested if not url.startswith("data:")] == [target.as_uri()]
    assert made.receipt.verified
    assert shown["cells"] > 1000  # a byte each
    assert shown["passages"] > 3
    assert shown["curve"] > 500
    assert shown["overflow"] <= 0


def test_pointing_at_a_symbol_tells_its_bits(browser: Any, page: Path) -> None:
    browser.open(page)
    script = """(() => {
      const cell = document.querySelectorAll(".heat.tall i")[20];
      const box = cell.getBoundingClientRect();
      cell.scrollIntoView({block: "center"});
      const at = cell.getClientRects()[0];
      return [at.x + at.width / 2, at.y + at.height / 2];
    })()"""
    before = "getComputedStyle(document.querySelectorAll('.heat.tall i')[20], '::after').content"
    x, y = browser.evaluate(script)
    assert browser.evaluate(before) == "none"
    browser.hover(x, y)
    assert browser.evaluate(before).endswith(' bits"')


def test_hostile_text_runs_nothing(
    browser: Any, stand_in_models: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "hostile.txt"
    hostile = (
        b"<script>console.log('ran')</script><img src=x onerror=\"console.log('ran')\">\xff\x00 "
    )
    path.write_bytes(hostile * 30)
    target = tmp_path / "page.html"
    made = report(path, model=stand_in_models.load_model()).html
    target.write_text(made, encoding="utf-8")
    browser.open(target)
    assert browser.said == []
    assert browser.evaluate("document.images.length + document.scripts.length") == 0
    assert "<script>console.log" in browser.evaluate("document.body.innerText")
    # And what would run if the escaping failed does not, for the page's policy forbids it.
    target.write_text(made.replace("</main>", "<script>document.title='ran'</script></main>"))
    browser.open(target)
    assert browser.evaluate("document.title") != "ran"
    assert any("Content Security Policy" in said for said in browser.said)
