"""A report in a real browser: every figure drawn, on a wide screen, a phone, in the dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dashboard_pages import open_browser
from report_searches import mixed_search, report_search, told

from search.report.page import Report
from search.study.session import opened

pytestmark = [pytest.mark.browser, pytest.mark.postgres]

TITLE = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"
DRAWN = """
return [...document.querySelectorAll('figure svg')].map(svg => {
  const box = svg.getBoundingClientRect();
  const marks = [...svg.querySelectorAll('path:not(.axis):not(.grid), rect.bar')];
  const visible = marks.filter(mark => {
    const style = getComputedStyle(mark);
    return style.stroke !== 'none' || style.fill !== 'none';
  });
  return {
    section: svg.closest('section').id, width: box.width, height: box.height,
    marks: visible.length, alt: svg.getAttribute('aria-label'),
    smallest: box.width / svg.viewBox.baseVal.width * Math.min(
      ...[...svg.querySelectorAll('text')].map(t => parseFloat(getComputedStyle(t).fontSize))),
    outside: [...svg.querySelectorAll('text')].filter(text => {
      const own = text.getBoundingClientRect();
      return own.left < box.left - 1 || own.right > box.right + 1 || own.top < box.top - 1
        || own.bottom > box.bottom + 1;
    }).map(text => text.textContent),
  };
});
"""


@pytest.fixture
def browser() -> Iterator[Any]:
    with open_browser() as driver:
        yield driver


@pytest.fixture
def page(engine: Any, database_url: str, tmp_path: Path) -> Path:
    """A search with every kind of trial, and enough of them for every figure."""
    with told(
        engine, report_search(trials=60, title=f"'{TITLE.replace(chr(39), chr(39) * 2)}'")
    ) as one:
        mixed_search(one)
        for step in range(8):
            one.end({"cifar10": 0.6 + 0.01 * step}, seconds=(3.0 * (step + 1), 0.0))
    path = tmp_path / "report.html"
    with opened(database_url, None, role="test") as session:
        Report.of(session).save(path)
    return path


def show(browser: Any, page: Path, *, width: int, dark: bool = False) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(page.as_uri())


@pytest.mark.parametrize(("width", "letters"), [(1280, 11.0), (390, 9.0)])
def test_every_figure_is_drawn_and_fits(
    browser: Any, page: Path, width: int, letters: float
) -> None:
    """`letters`: pixels of the smallest ones."""
    show(browser, page, width=width)
    found = browser.execute_script(DRAWN)
    sections = [figure["section"] for figure in found]
    assert sorted(set(sections)) == [
        "cost", "history", "importances", "learning", "parallel", "sets", "slices", "timeline",
    ]  # fmt: skip
    assert sections.count("slices") == 4
    for figure in found:
        assert figure["marks"] > 0, figure
        assert figure["width"] > 200, figure
        assert figure["height"] > 80, figure
        assert figure["smallest"] >= letters, figure
        assert figure["outside"] == [], figure
        assert figure["alt"]
    across = browser.execute_script("return document.documentElement.scrollWidth")
    assert across <= width, "the page scrolls sideways"
    assert browser.get_log("browser") == []


def test_a_title_does_nothing(browser: Any, page: Path) -> None:
    show(browser, page, width=1280)
    assert browser.title.startswith("<script>")
    heading = browser.execute_script("return document.querySelector('h1').textContent")
    assert heading == TITLE
    assert browser.execute_script("return document.images.length + document.scripts.length") == 0


def test_dark_and_print(browser: Any, page: Path) -> None:
    colours = """
      const of = (what, where) => getComputedStyle(document.querySelector(where))[what];
      return [of('backgroundColor', 'body'), of('color', 'body'), of('fill', 'svg text.tick'),
              getComputedStyle(document.querySelector('nav')).display];
    """
    show(browser, page, width=1280)
    light = browser.execute_script(colours)
    show(browser, page, width=1280, dark=True)
    dark = browser.execute_script(colours)
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] == "rgb(18, 22, 28)"
    assert all(one != other for one, other in zip(light[:3], dark[:3], strict=True))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    on_paper = browser.execute_script(colours)
    assert on_paper[:2] == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    assert on_paper[3] == "none"
