"""What a terminal shows: texts of users as they are, and tables that never cut a number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

LEAST_TEXT = 24
"""Columns that a column of words gets at least before a table is split."""


def plain(text: object, style: str = "") -> Text:
    """A text from outside (title, name, outcome, path) for rich, not read as its markup.

    A title such as `[bold]b[/]` is shown as it stands; control characters, which could
    move the cursor or recolour the terminal, become spaces.
    """
    kept = "".join(c if c.isprintable() or c == "\n" else " " for c in str(text))
    return Text(kept, style=style)


def duration(seconds: float) -> str:
    """`42 s`, `7 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    words: bool
    left: bool


@dataclass(slots=True)
class WideTable:
    """Rows whose numbers are shown whole, however narrow the terminal.

    Columns that do not fit beside the first one follow in a further table below, the
    first column repeated.  Columns of words wrap.

    Args:
        title: above the first table, as it is.
    """

    title: str = ""
    _columns: list[_Column] = field(default_factory=list)
    _rows: list[tuple[str, ...]] = field(default_factory=list)

    def column(self, heading: str, *, left: bool = False) -> None:
        """A column of numbers or names: never wrapped, never cut."""
        self._columns.append(_Column(heading, words=False, left=left))

    def words(self, heading: str) -> None:
        """A column of sentences: wrapped."""
        self._columns.append(_Column(heading, words=True, left=True))

    def row(self, *cells: object) -> None:
        """One cell a column; None is empty."""
        if len(cells) != len(self._columns):
            raise ValueError(f"{len(cells)} cells for {len(self._columns)} columns")
        self._rows.append(tuple("" if cell is None else str(cell) for cell in cells))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield plain(self.title, style="bold")
        for group in self._groups(options.max_width):
            yield self._table(group)

    def _groups(self, width: int) -> list[list[int]]:
        """Indices of the columns of each table."""
        groups = [[0]]
        for index in range(1, len(self._columns)):
            group = groups[-1]
            wide = sum(self._width(i) for i in (*group, index)) + len(group)
            if wide > width and len(group) > 1:
                groups.append([0])
            groups[-1].append(index)
        return groups

    def _width(self, index: int) -> int:
        column = self._columns[index]
        texts = [column.heading, *(row[index] for row in self._rows)]
        wide = max(cell_len(line) for text in texts for line in text.split("\n"))
        return min(wide, LEAST_TEXT) if column.words else wide

    def _table(self, group: list[int]) -> Table:
        table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0, header_style="bold")
        for index in group:
            column = self._columns[index]
            if column.words:
                table.add_column(plain(column.heading), overflow="fold", ratio=1)
            else:
                table.add_column(
                    plain(column.heading),
                    justify="left" if column.left else "right",
                    no_wrap=True,
                    min_width=self._width(index),
                )
        for row in self._rows:
            table.add_row(*(plain(row[index]) for index in group))
        return table
