"""A headless Chromium that looks at the dashboard as a person would, and takes pictures.

Used by the test beside it and, on a search of one's own, from the command line:

    python tests/browser/dashboard_pages.py --url http://127.0.0.1:8080 --user nkat \\
        --password-file secrets/dashboard_password --out docs/
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = "/usr/bin/chromium"  # Debian's packages chromium and chromium-driver
DRIVER = "/usr/bin/chromedriver"
WAIT_S = 60
SIZE = (1400, 900)
TALL = 2000  # a whole trial page: note, values, attributes, artifacts
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # the tests may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    # Nothing but the pages under test: no updates, no reports, no sync.
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    f"--window-size={SIZE[0]},{SIZE[1]}",
)


class Pages:
    """The dashboard at `url`, logged in."""

    def __init__(self, driver: Any, *, url: str) -> None:
        self.driver = driver
        self._url = url.rstrip("/")

    def log_in(self, user: str, password: str) -> None:
        """Through the browser's own Basic login; later pages go without it in the address."""
        parts = urlsplit(self._url)
        name = f"{quote(user, safe='')}:{quote(password, safe='')}"
        self.driver.get(f"{parts.scheme}://{name}@{parts.netloc}/favicon.ico")

    def studies(self) -> str:
        """The list of studies; returns its text."""
        self.driver.get(f"{self._url}/dashboard")
        self._until(
            lambda: "(id=" in self.text() or "Direction" in self.text(), "a study is listed"
        )
        return self.text()

    def history(self, study_id: int) -> int:
        """The study's first page; returns how many points its history plot shows."""
        self.driver.get(f"{self._url}/dashboard/studies/{study_id}")
        points = self._until(
            lambda: self.driver.find_elements(
                By.CSS_SELECTOR, ".js-plotly-plot .scatterlayer .points path"
            ),
            "the history plot has points",
        )
        return len(points)

    def plots(self, page: str) -> None:
        """Another of the dashboard's pages, once it has drawn a plot."""
        self.driver.get(f"{self._url}/dashboard/{page}")
        self._until(
            lambda: self.driver.find_elements(By.CSS_SELECTOR, ".js-plotly-plot"), "a plot"
        )

    def trial(self, study_id: int, number: int) -> str:
        """One trial's page, its note rendered; returns its text."""
        self.driver.get(f"{self._url}/dashboard/studies/{study_id}/trials?numbers={number}")
        self._until(lambda: f"Trial {number} (trial_id=" in self.text(), "the trial is shown")
        self._until(lambda: self.bold_lines(), "its note is rendered")
        return self.text()

    def study_note(self, study_id: int) -> str:
        self.driver.get(f"{self._url}/dashboard/studies/{study_id}/note")
        self._until(lambda: self.bold_lines(), "the study's note is rendered")
        return self.text()

    def bold_lines(self) -> list[str]:
        """Rendered **sentences**: Markdown that became bold text."""
        found: list[WebElement] = self.driver.find_elements(By.TAG_NAME, "strong")
        return [element.text for element in found]

    def text(self) -> str:
        return str(self.driver.find_element(By.TAG_NAME, "body").text)

    def picture(self, path: Path) -> None:
        time.sleep(1.5)  # plots are drawn with a transition
        self.driver.save_screenshot(str(path))

    def errors(self) -> list[str]:
        """What the browser's console holds against the pages so far."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE"
        ]

    def _until(self, probe: Any, what: str) -> Any:
        return WebDriverWait(self.driver, WAIT_S, poll_frequency=0.2).until(
            lambda _: probe(), f"not within {WAIT_S} s: {what}"
        )


@contextmanager
def open_browser() -> Iterator[Any]:
    """A driver with a fresh profile, whose console is kept."""
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        try:
            yield driver
        finally:
            driver.quit()


@contextmanager
def open_pages(*, url: str, user: str, password: str) -> Iterator[Pages]:
    with open_browser() as driver:
        pages = Pages(driver, url=url)
        pages.log_in(user, password)
        yield pages


def take_pictures(pages: Pages, *, study_id: int, trials: dict[str, int], out: Path) -> None:
    """dashboard-{studies,history,note,<name>}.png in `out`; `trials`: name -> trial number."""
    out.mkdir(parents=True, exist_ok=True)
    pages.studies()
    pages.picture(out / "dashboard-studies.png")
    pages.history(study_id)
    pages.picture(out / "dashboard-history.png")
    pages.study_note(study_id)
    pages.picture(out / "dashboard-note.png")
    for name, number in trials.items():
        has_artifact = ".yaml" in pages.trial(study_id, number)
        pages.driver.set_window_size(SIZE[0], TALL if has_artifact else SIZE[1])
        pages.picture(out / f"dashboard-{name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--user", required=True)
    parser.add_argument("--password-file", type=Path, required=True)
    parser.add_argument("--study-id", type=int, default=1)
    parser.add_argument("--trial", action="append", default=[], metavar="NAME=NUMBER")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    password = options.password_file.read_text(encoding="utf-8").rstrip("\r\n")
    trials = {name: int(number) for name, _, number in (t.partition("=") for t in options.trial)}
    with open_pages(url=options.url, user=options.user, password=password) as pages:
        take_pictures(pages, study_id=options.study_id, trials=trials, out=options.out)


if __name__ == "__main__":
    main()
