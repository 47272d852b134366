"""Options and output that several commands share."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nkat_errors import BadInput
from search.logs import LogFormat

if TYPE_CHECKING:
    from rich.console import Console

StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL",
        help="Database, `postgresql+psycopg2://user:password@host:5432/name` (or NKAT_STORAGE; "
        "the password may stand in the file NKAT_STORAGE_PASSWORD_FILE).  Left out: the "
        "embedded one in the state folder.",
    ),
]
StateDirOption = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        envvar="NKAT_STATE_DIR",
        metavar="DIR",
        help="Folder of the embedded database, checkpoints and logs (default: ./runs).",
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="NKAT_DATA_DIR",
        metavar="DIR",
        help="Folder of prepared sets (NAME.npz); left out, the originals are downloaded.",
    ),
]
StudyOption = Annotated[
    str | None,
    typer.Option("--study", metavar="NAME", help="Study; left out, the newest of the database."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout instead of tables.")
]
EnqueueOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--enqueue",
        metavar="FILE",
        help="Try the configuration of this best.yaml first (may be given again).",
    ),
]
FromStudyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--from-study",
        metavar="NAME",
        help="Try the best three trials of this study of the same database first.",
    ),
]
ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Shown to whoever looks.")
]
BY_HAND = "by hand"
"""The reason where none is given."""
TimeoutOption = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="TIME",
        help="End the search after this time (90s, 45m, 2h); trials under way are saved.",
    ),
]
StopAtOption = Annotated[
    float | None,
    typer.Option(
        "--stop-at",
        metavar="SCORE",
        min=0,
        help="End the search once a trial has this Global TPE score.",
    ),
]
LogFormatOption = Annotated[
    LogFormat,
    typer.Option(
        "--log-format",
        envvar="NKAT_LOG_FORMAT",
        help="Log lines as text, or as JSON with trial, attempt and worker as fields.",
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option("--device", metavar="NAME", help="`auto`, `cpu`, `cuda` or `cuda:N`."),
]


def need_storage(url: str | None) -> str:
    """The storage URL, which the command cannot do without."""
    if not url:
        raise BadInput(
            "no database named: give --storage postgresql+psycopg2://user:password@host/name "
            "or set NKAT_STORAGE (`nkat-search run` starts one of its own)"
        )
    return url


def read_password(file: Path) -> str:
    """A password alone in a file, without the line's end.

    Raises:
        BadInput: the file cannot be read, or holds none.
    """
    try:
        password = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the password file {file} cannot be read ({error})") from None
    if not password:
        raise BadInput(f"the password file {file} is empty: write the password into it")
    return password


def out_console() -> Console:
    """stdout: results."""
    return _console(stderr=False)


def note_console() -> Console:
    """stderr: progress and notes, so that --json output stays clean."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    """Texts are shown as they are: no markup, no emoji codes, no colours of rich's own."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def say_warnings(sentences: Iterable[str]) -> None:
    """Loud lines on stderr: what a user must not miss."""
    console = note_console()
    for sentence in sentences:
        console.print(f"WARNING: {sentence}", style="bold yellow", soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout; NaN and infinity become null, as JSON has neither."""
    typer.echo(json.dumps(finite(value), indent=2, default=str))


def finite(value: Any) -> Any:
    """The value with every NaN and infinity replaced by None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
