"""Texts from outside are not markup; numbers are never cut."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from search.terminal import WideTable, plain

MARKUP = "[bold]b[/bold] [/] :smile: [link=x]"


def shown(thing: object, width: int) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(thing)
    return captured.get()


def test_text_is_shown_as_it_is() -> None:
    assert shown(plain(MARKUP), 80).rstrip() == MARKUP
    assert shown(plain("a\x1b[31mred\x07\tb"), 80).rstrip() == "a [31mred  b"
    table = WideTable(MARKUP)
    table.column(MARKUP)
    table.words("words")
    table.row(MARKUP, MARKUP)
    assert shown(table, 200).count(MARKUP) == 4


@pytest.mark.parametrize("width", [20, 40, 79, 80, 81, 200])
def test_every_number_is_whole_and_no_line_is_too_long(width: int) -> None:
    table = WideTable()
    table.column("trial")
    numbers = [[f"{row}{column:02d}.4321" for column in range(14)] for row in (1, 2)]
    for column in range(14):
        table.column(f"a heading\nof {column}")
    table.words("what happened")
    for row, cells in enumerate(numbers):
        table.row(row, *cells, "a sentence that is longer than the terminal " * 3)
    text = shown(table, width)
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    found = re.findall(r"\d+\.\d+", text)
    assert sorted(found) == sorted(number for row in numbers for number in row)
    assert "…" not in text


def test_a_table_that_fits_is_one_table() -> None:
    table = WideTable()
    for heading in ("trial", "score"):
        table.column(heading)
    table.row(1, None)
    assert shown(table, 80).count("trial") == 1
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        table.row(1)
