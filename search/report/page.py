"""The page itself: everything put into the template, and written as one file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined, Template
from markupsafe import Markup

from nkat_errors import BadInput
from search.provenance import code_version
from search.report import words
from search.report.collected import Collected, Kind, collect
from search.report.cost import cost
from search.report.environment import environment
from search.report.figure import Figure
from search.report.history import history
from search.report.importances import importances
from search.report.incidents import incidents
from search.report.learning import learning_curves
from search.report.parallel import parallel, top_trials
from search.report.savings import savings
from search.report.scales import short
from search.report.sets import accuracy_bars
from search.report.slices import slices
from search.report.timeline import timeline
from search.report.verdict import summarise
from search.study.session import Session
from search.study.trial_record import TrialRecord

REPORT_NAME = "report.html"
"""Written beside best.yaml."""

MARK = '<meta name="generator" content="nkat-search report">'
"""In the first lines of every report: what tells it from a file of somebody's own."""

HEAD_BYTES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A page in memory.

    Args:
        html: the whole of it.
        study: that it is of.
        trials: in the study then.
    """

    html: str
    study: str
    trials: int

    @classmethod
    def of(
        cls,
        session: Session,
        *,
        clock: Callable[[], datetime] | None = None,
        refresh_s: float | None = None,
    ) -> Report:
        """Reads an opened search and draws it.

        Args:
            session: the search.
            clock: when the page is made; None is now, UTC.
            refresh_s: a browser loads the page again after so many seconds; None: never.
        """
        data = collect(session, clock=clock or (lambda: datetime.now(UTC)))
        html = render(data, refresh_s=refresh_s)
        return cls(html=html, study=data.study, trials=len(data.trials))

    def save(self, path: Path, *, force: bool = False) -> None:
        """Writes the file, whole or not at all.

        Raises:
            BadInput: it cannot be written, or a file is there that is no report (`force`
                replaces it).
        """
        partial = path.with_name(f".{path.name}.partial")
        try:
            if not force and path.exists() and not _is_report(path):
                raise BadInput(
                    f"{path} is there and is no report: give another --out, or --force to "
                    "replace it"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(self.html, encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            raise BadInput(f"{path}: cannot be written ({error.strerror})") from None


def _is_report(path: Path) -> bool:
    with path.open("rb") as stream:
        return MARK.encode() in stream.read(HEAD_BYTES)


def render(data: Collected, *, refresh_s: float | None = None) -> str:
    """The page of a search.  Titles, names and reasons are text: the template escapes them.

    Args:
        refresh_s: see `Report.of`.
    """
    search, summary = data.search, summarise(data)
    return _template().render(
        mark=Markup(MARK),
        refresh_s=refresh_s,
        css=Markup(_file("page.css")),
        title=search.title or data.study,
        study=data.study,
        cut_down=search.cut_down,
        subtitle=_subtitle(data),
        summary=summary,
        sets_figure=accuracy_bars(summary),
        figures=_figures(data),
        parallel=parallel(data),
        top=_table(data, top_trials(data)),
        cost=cost(data),
        savings=savings(data),
        timeline=timeline(data),
        incidents=incidents(data),
        environment=environment(data),
        code_version=code_version(),
        data=data,
    )


def _figures(data: Collected) -> list[Figure]:
    return [history(data), learning_curves(data), slices(data), importances(data)]


def _subtitle(data: Collected) -> str:
    counted = len(data.by_kind[Kind.COMPLETE]) + sum(t.state == "pruned" for t in data.trials)
    return (
        f"{counted:,} of {data.budget:,} trials count; study made {_day(data.created_at)}, this "
        f"page {_day(data.made_at)}"
    )


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _table(data: Collected, trials: Sequence[TrialRecord]) -> dict[str, Any]:
    """The top trials' numbers: what a screen reader reads instead of their lines."""
    names = list(data.search.space.parameters)
    return {
        "names": names,
        "rows": [
            {
                "number": trial.number,
                "value": trial.value if trial.complete else None,
                "gate": trial.verdict.gate.score if trial.verdict else None,
                "params": [short(trial.params.get(name), 24) for name in names],
            }
            for trial in trials
        ],
    }


@cache
def _template() -> Template:
    environment = Environment(
        loader=DictLoader({"page.html": _file("page.html")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"score": words.score, "percent": words.percent}
    environment.filters |= {"seconds": words.seconds}
    return environment.get_template("page.html")


def _file(name: str) -> str:
    return files("search.report").joinpath(name).read_text(encoding="utf-8")
