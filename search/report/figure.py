"""One figure of the page."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One drawing.  `caption` is plain text; empty where the figure's own sentence is enough."""

    svg: Markup
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One section with its drawings.

    Args:
        key: its anchor on the page.
        title: heading.
        sentence: what to see in this search; where nothing is drawn, why.
        panels: none where there is too little to draw.
    """

    key: str
    title: str
    sentence: str
    panels: tuple[Panel, ...] = ()
