"""A plot as static SVG: small, without script, coloured by the page's own style sheet.

Marks of one kind are one path, so that 5,000 trials are some 100 kB.  Shapes differ
beside colours, for those who see no colours and for print.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from search.report.scales import Scale

WIDTH, HEIGHT = 480, 290
"""Units of the drawing; the page stretches it to its column."""
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 46
CROWD = 600
"""Points from which marks of the usual size would be one area."""

LETTER = 7.2
"""Width of a letter, about."""

Point = tuple[float, float]


class Plot:
    """Axes, and what is drawn on them.

    Args:
        x, y: the scales.
        x_title, y_title: what they are of, with the unit.
        width, height: of the drawing.
        points: how many there will be; of many, each is drawn small.
    """

    def __init__(
        self,
        *,
        x: Scale,
        y: Scale,
        x_title: str,
        y_title: str,
        width: int = WIDTH,
        height: int = HEIGHT,
        points: int = 0,
    ) -> None:
        self._crowded = points > CROWD
        self._half = 1.5 if self._crowded else 3.0
        self._x, self._y = x, y
        self.width, self.height = width, height
        self._right, self._bottom = width - RIGHT, height - BOTTOM
        self._parts: list[Markup] = [self._frame(x_title, y_title)]
        self._over: list[Markup] = []

    def at(self, x: object, y: object, *, shift: float = 0.0) -> Point | None:
        """Where a value pair lies; None where one of them has no place."""
        across, up = self._x.place(x), self._y.place(y)
        if across is None or up is None:
            return None
        return (
            LEFT + (across + shift) * (self._right - LEFT),
            self._bottom - up * (self._bottom - TOP),
        )

    def dots(self, points: Iterable[Point | None], style: str) -> None:
        """Filled circles (a stroke of no length with round ends)."""
        self._path("".join(f"M{n(p[0])} {n(p[1])}h0" for p in points if p), f"dots {style}")

    def crosses(self, points: Iterable[Point | None], style: str) -> None:
        half, whole = n(self._half), n(2 * self._half)
        shape = f"m-{half}-{half}l{whole} {whole}m0-{whole}l-{whole} {whole}"
        self._path("".join(f"M{n(p[0])} {n(p[1])}{shape}" for p in points if p), f"marks {style}")

    def triangles(self, points: Iterable[Point | None], style: str) -> None:
        half = self._half + 1
        shape = f"m0-{n(half)}l{n(half)} {n(1.75 * half)}h-{n(2 * half)}z"
        self._path("".join(f"M{n(p[0])} {n(p[1])}{shape}" for p in points if p), f"marks {style}")

    def at_the_foot(self, values: Iterable[object], style: str) -> None:
        """Short strokes on the x axis: trials that have no y."""
        places = [self._x.place(value) for value in values]
        columns = [LEFT + p * (self._right - LEFT) for p in places if p is not None]
        self._path("".join(f"M{n(x)} {self._bottom}v-8" for x in columns), f"marks {style}")

    def stretches(self, ends: Iterable[tuple[Point | None, Point | None]], style: str) -> None:
        """Thick strokes from one point to another of the same height."""
        known = [(begin, end) for begin, end in ends if begin and end]
        way = "".join(f"M{n(b[0])} {n(b[1])}H{n(max(e[0], b[0] + 0.5))}" for b, e in known)
        self._path(way, f"stretch {style}")

    def upright(self, value: float, style: str) -> None:
        """A line at an x value."""
        across = self._x.place(value)
        if across is not None:
            x = LEFT + across * (self._right - LEFT)
            self._path(f"M{n(x)} {TOP}V{self._bottom}", f"line level {style}")

    def line(self, points: Sequence[Point | None], style: str) -> None:
        """Through the points, in their order."""
        known = [p for p in points if p]
        if known:
            self._path(polyline(known), f"line {style}")

    def level(self, value: float, words: str, style: str, *, left: bool = False) -> None:
        """A line at a y value with its name; nothing where it lies outside."""
        up = self._y.place(value)
        if up is None or not 0 <= up <= 1:
            return
        y = self._bottom - up * (self._bottom - TOP)
        self._path(f"M{LEFT} {n(y)}H{self._right}", f"line level {style}")
        x, anchor = (LEFT + 4, "start") if left else (self._right - 2, "end")
        self._over.append(text(x, y - 4, words, f"name {style}", anchor=anchor))

    def ring(self, point: Point | None, words: str) -> None:
        """Draws attention to one point and says what it is."""
        if point is None:
            return
        x, y = point
        self._over.append(
            Markup('<circle class="ring" cx="{}" cy="{}" r="7"/>').format(n(x), n(y))
        )
        # Below it: a best point has its rivals on either side, and little above it.
        anchor = "end" if x > self.width * 0.75 else "start" if x < 2 * LEFT else "middle"
        under = y + 21 if y + 21 < self._bottom else y - 12
        self._over.append(text(x, under, words, "name", anchor=anchor))

    def svg(self, alt: str) -> Markup:
        """The drawing.

        Args:
            alt: what it shows, for those who do not see it.
        """
        inside = Markup("").join([*self._parts, *self._over])
        style = "many" if self._crowded else "few"
        return drawing(inside, alt=alt, width=self.width, height=self.height, style=style)

    def _path(self, way: str, style: str) -> None:
        if way:
            self._parts.append(Markup('<path class="{}" d="{}"/>').format(style, way))

    def _frame(self, x_title: str, y_title: str) -> Markup:
        parts = []
        for place, label in self._y.ticks():
            y = self._bottom - place * (self._bottom - TOP)
            parts.append(
                Markup('<path class="grid" d="M{} {}H{}"/>').format(LEFT, n(y), self._right)
            )
            parts.append(text(LEFT - 6, y + 4, label, "tick", anchor="end"))
        ends = -float("inf")
        for place, label in self._x.ticks():
            x, half = LEFT + place * (self._right - LEFT), len(label) * LETTER / 2
            if x - half > ends and x + half < self.width:  # no label over another
                parts.append(text(x, self._bottom + 16, label, "tick"))
                ends = x + half + 2
        parts.append(
            Markup('<path class="axis" d="M{} {}V{}H{}"/>').format(
                LEFT, TOP, self._bottom, self._right
            )
        )
        parts.append(text((LEFT + self._right) / 2, self.height - 8, x_title, "title"))
        parts.append(
            Markup(
                '<text class="title" text-anchor="middle" transform="translate(13 {}) '
                'rotate(-90)">{}</text>'
            ).format(n((TOP + self._bottom) / 2), y_title)
        )
        return Markup("").join(parts)


def drawing(inside: Markup, *, alt: str, width: int, height: int, style: str = "few") -> Markup:
    """An SVG element that a screen reader reads as one picture."""
    return Markup(
        '<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(style, width, height, alt, inside)


def text(x: float, y: float, words: str, style: str, *, anchor: str = "middle") -> Markup:
    """Words at a place; they are escaped."""
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        style, n(x), n(y), anchor, words
    )


def polyline(points: Sequence[Point]) -> str:
    """A path through the points."""
    return "M" + "L".join(f"{n(x)} {n(y)}" for x, y in points)


def n(value: float) -> str:
    """A coordinate to a tenth of a unit."""
    return f"{value:.1f}".removesuffix(".0")
