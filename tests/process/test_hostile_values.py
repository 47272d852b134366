"""Every option of every command, with values that nobody should type.

Whatever comes, a command answers with one sentence and an exit code; the last resort for
errors that nobody foresaw is not needed, and works.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from data_files import write_npz

import search.cli
from search.cli import COMMANDS, command_line, main
from search.cli.recipe_options import NETWORK, TRAINING

ROOT = Path(__file__).parents[2]
SEARCH = """
study: small
n_trials: 1
lambda: counted
gate: {dataset: shades, threshold: 0.01}
datasets: [{name: shades, limit: 20, validation: 20}]
space: {depth: [1, 2]}
"""
"""Of a set that nobody could download."""
NOWHERE = "postgresql+psycopg2://x@127.0.0.1:1/x"
"""Nobody listens there: what gets as far as the database ends quickly."""

HOSTILE = (
    "",
    " ",
    "[/]",
    "[bold]x[/bold] {0} %s\\n",
    "\x1b[31m",
    "1e400",
    "nan",
    "-1",
    "0",
    "99999999999999999999",
    "x" * 600,
    "/proc/self/mem",
    "/",
    "/dev/null",
    "~no-such-user/x",
)

DATABASE = ["--storage", NOWHERE, "--wait", "0"]
BASES: dict[str, list[str]] = {
    "init": [],
    "run": [
        *("--config", "search.yaml", "--data-dir", "images", "--storage", NOWHERE),
        *("--dashboard-port", "0"),
    ],
    "create": ["--config", "search.yaml", *DATABASE],
    "worker": [*DATABASE, "--device", "cpu"],
    "orchestrate": DATABASE,
    "status": DATABASE[:2],
    "study list": DATABASE[:2],
    "study show": ["a", *DATABASE[:2]],
    "study compare": ["a", "b", *DATABASE[:2]],
    "study delete": ["a", "--yes", *DATABASE[:2]],
    "pause": DATABASE[:2],
    "resume": DATABASE[:2],
    "stop": DATABASE[:2],
    "dashboard": DATABASE,
    "export": DATABASE[:2],
    "backup": ["x.backup", *DATABASE[:2]],
    "restore": ["/dev/null", *DATABASE[:2]],
    "report": DATABASE[:2],
    "recalculate": ["no-such-best.yaml"],
    "verify": ["no-such-best.yaml"],
    "predict": ["no-such-weights.safetensors", "image.png"],
    "attention": ["no-such-weights.safetensors", "image.png", "--out", "attention.png"],
    "train": ["--device", "cuda:99"],
    "smoke": ["--device", "cuda:99"],
    "describe": [],
    "explain": [],
    "schema": [],
    "data prepare": ["no-such-set"],
    "data check": ["no-such-set"],
    "rehearse": ["--config", "search.yaml", "--faults", "no-such-fault"],
    "database": ["--password-file", "no-such-secret"],
    "healthcheck": DATABASE[:2],
}
"""What lets each command fail or end soon, however its other options are."""

HARMLESS = {
    ("run", "--storage", ""),  # means the embedded database: the search would run
    ("create", "--storage", ""),
    ("run", "--state-dir", "/"),  # root may write there
    ("rehearse", "--faults", ""),  # means none: the rehearsal would run
    ("rehearse", "--faults", " "),
}
FOR_EVER = {("--wait", "1e400"), ("--wait", "99999999999999999999")}


def commands(group: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, below in group.commands.items():
        if hasattr(below, "commands"):
            yield from commands(below, (*names, name))
        else:
            yield " ".join((*names, name)), below


RECIPE = {*NETWORK, *TRAINING}


def cases() -> Iterator[tuple[str, str, str]]:
    for name, command in commands(command_line()):
        for parameter in command.params:
            if getattr(parameter, "is_flag", False) or parameter.nargs != 1:
                continue
            option = parameter.opts[0] if parameter.opts[0].startswith("-") else ""
            # Fields are read by one parser for all commands: `describe` shall do for them.
            field = option.removeprefix("--").replace("-", "_") in RECIPE
            if field and name != "describe":
                continue
            for value in HOSTILE:
                case = (name, option, value)
                if case not in HARMLESS and (option, value) not in FOR_EVER:
                    yield case


def without(base: list[str], option: str) -> list[str]:
    """The base without that option (and, for an argument, without the argument)."""
    if not option:
        return base[1:]
    if option not in base:
        return base
    place = base.index(option)
    return base[:place] + base[place + 2 :]


def test_every_command_is_tried() -> None:
    names = [name for name, _ in commands(command_line())]
    assert sorted(BASES) == sorted(names)
    assert {name.split()[0] for name in names} == set(COMMANDS)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Services set up the log of their process, which here is ours."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.setLevel(logging.WARNING)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("storage").setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("NKAT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NKAT_CACHE_DIR", str(tmp_path / "no-cache"))
    (tmp_path / "search.yaml").write_text(SEARCH)
    (tmp_path / "images").mkdir()
    write_npz(tmp_path / "images" / "shades.npz")


@pytest.mark.parametrize("name", sorted(BASES))
def test_a_hostile_value_is_answered_by_a_sentence(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = [case for case in cases() if case[0] == name]
    wrong = []
    for _, option, value in tried:
        base = without(BASES[name], option)
        given = [option, value] if option else ["--", value]
        arguments = [*name.split(), *base, *given]
        try:
            code: object = main(arguments)
        except BaseException as error:
            code = repr(error)
        said = capsys.readouterr().err
        lines = said.strip().splitlines()
        told = bool(lines) and any(line.startswith("nkat-search: ") for line in lines)
        fine = code == 0 or (code in (1, 2) and (told or name.startswith("data")))
        if not fine or "Traceback" in said or "unexpected " in said:
            wrong.append((option, value[:40], code, said[-300:]))
    assert not wrong
    assert tried or name in ("init", "schema")


# --- the last resort --------------------------------------------------------------------


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line with a fault that nobody foresaw."""

    def run(**_options: object) -> int:
        return len(None)  # type: ignore[arg-type]

    monkeypatch.setattr(search.cli, "command_line", lambda _names: run)


@pytest.mark.usefixtures("broken")
def test_an_unforeseen_error_is_one_sentence_and_a_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["status"]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("nkat-search: unexpected TypeError: object of type 'NoneType'")
    path = Path(line.partition("(traceback in ")[2].partition(";")[0])
    text = path.read_text()
    path.unlink()
    assert text.startswith("Traceback (most recent call last):")
    assert "len(None)" in text


@pytest.mark.usefixtures("broken")
def test_debugging_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NKAT_DEBUG", "1")
    assert main(["status"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith("nkat-search: unexpected TypeError")


# --- as a shell gives them ----------------------------------------------------------------


def shell(*arguments: bytes | str, stdout: Any = subprocess.PIPE) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from search.cli import main; sys.exit(main())",
            *arguments,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["describe", "--config", b"\xff\xfe.yaml"],
        ["explain", "--lambda", b"\xff"],
        ["status", "--storage", b"\xff"],
        ["train", "--out", b"\xff\xff/\xfe", "--dataset", b"\xff", "--device", "cuda:99"],
        ["restore", b"\xff"],
    ],
)
@pytest.mark.process
def test_bytes_that_are_no_text_are_answered_too(
    arguments: list[bytes | str], tmp_path: Path
) -> None:
    process = shell(*arguments)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.startswith(b"nkat-search: ")
    assert b"unexpected" not in err
    assert b"Traceback" not in err


@pytest.mark.process
def test_a_reader_that_has_had_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = shell("schema", stdout=writing)
    os.close(writing)
    _, err = process.communicate(timeout=60)
    assert err == b""
    assert process.returncode == 1
