"""The command line `nkat-search`: one module a command.

Modules of commands import nothing heavy at their top, so that `--help` is quick;
what a command needs is imported when it runs.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from nkat_errors import BadInput, Interrupted, NkatError
from search.exit_codes import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""A wrong command line.  Typer carries its own copy of Click and names only the
subclass; from click.exceptions another class would come."""

COMMANDS = (
    "init",
    "run",
    "create",
    "worker",
    "orchestrate",
    "status",
    "study",
    "pause",
    "resume",
    "stop",
    "dashboard",
    "export",
    "report",
    "backup",
    "restore",
    "recalculate",
    "verify",
    "predict",
    "attention",
    "train",
    "smoke",
    "describe",
    "explain",
    "schema",
    "data",
    "rehearse",
    "database",
    "healthcheck",
)
"""Modules of this package, in the order of `--help`; each has `register(app)`."""

HELP = """Distributed two-stage search for a small Vision Transformer (NKAT).

Stage 1 trains a configuration on CIFAR-10; only one that passes the gate is trained
on the other sets (stage 2), and the Global TPE score of all of them is maximised.

    nkat-search init                                 a search file to start from
    nkat-search run                                  the whole search, this machine
    nkat-search status --watch                       trials, workers, best score
    nkat-search export --out best.yaml               the best configuration
    nkat-search recalculate best.yaml                train it in full, read the test images

Exit codes: 0 done, 1 failed or NO-GO, 2 bad input."""


def command_line(names: Sequence[str] = COMMANDS) -> Any:
    """The command line with these commands, for Typer to run."""
    app = typer.Typer(
        name="nkat-search",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        # `--conv_stem` and `--conv-stem` are the same option.
        context_settings={
            "token_normalize_func": lambda token: token.replace("_", "-"),
            "help_option_names": ["-h", "--help"],
        },
        help=HELP,
    )
    app.callback()(_root)
    for name in names:
        importlib.import_module(f"{__name__}.{name}").register(app)
    command = typer.main.get_command(app)
    _flags_without_type(command, command.make_context("nkat-search", [], resilient_parsing=True))
    return command


def _print_version(wanted: bool) -> None:
    if wanted:
        from search.provenance import code_version

        typer.echo(f"nkat-search {code_version()}")
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option(
        "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
]


def _root(version: VersionOption = False) -> None:
    """What stands before the command."""


def _flags_without_type(command: Any, context: Any) -> None:
    """Typer's help shows `<bool>` after every flag, as if one could be given."""
    for parameter in command.get_params(context):
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    for name, below in getattr(command, "commands", {}).items():
        _flags_without_type(below, type(context)(below, info_name=name, parent=context))


def _needed(arguments: Sequence[str]) -> Sequence[str]:
    """Only the command that is run, where it can be told: what the others import takes
    longer than some commands do (`healthcheck` runs every few seconds)."""
    return arguments[:1] if arguments and arguments[0] in COMMANDS else COMMANDS


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code.

    Every error is one line on stderr; the traceback of one that nobody foresaw is kept
    aside (search/last_resort.py).
    """
    wait_passively()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = command_line(_needed(arguments))(
            args=arguments,
            standalone_mode=False,
            prog_name="nkat-search",
        )
    except BadInput as error:
        return _told(error, EXIT_BAD_INPUT)
    except Interrupted as error:
        return _told(error, EXIT_INTERRUPTED)
    except NkatError as error:
        return _told(error, EXIT_FAILED)
    except (KeyboardInterrupt, typer.Abort):
        return _told("interrupted", EXIT_INTERRUPTED)
    except typer.Exit as stop:
        if isinstance(stop.__cause__, KeyboardInterrupt):  # Typer's form of it
            return _told("interrupted", EXIT_INTERRUPTED)
        return stop.exit_code
    except UsageError as error:
        return _usage(error)
    except Exception as error:
        from search.last_resort import sentence_for

        return _told(sentence_for(error), EXIT_FAILED)
    return code if isinstance(code, int) else EXIT_DONE


def _usage(error: Any) -> int:
    """Names the fault and where help is; without any arguments, is the help itself."""
    message = error.format_message()
    if type(error).__name__ == "NoSuchOption":
        message = f"No such option: {error.option_name}{_nearest_option(error)}"
    if type(error).__name__ == "NoArgsIsHelpError":
        if message:
            sys.stdout.write(f"{message}\n")
        return EXIT_BAD_INPUT
    command = error.ctx.command_path if error.ctx is not None else "nkat-search"
    return _told(f"{message.rstrip('.')}; see `{command} --help`", EXIT_BAD_INPUT)


def _nearest_option(error: Any) -> str:
    """Compares names without their dashes: the dashes, which every option has, make
    `--mlp-ratio` look like `--validation`."""
    options = [name for p in error.ctx.command.params for name in (*p.opts, *p.secondary_opts)]
    bare = {name.lstrip("-"): name for name in options}
    close = difflib.get_close_matches(error.option_name.lstrip("-"), bare, n=1)
    return f" (did you mean {bare[close[0]]}?)" if close else ""


def wait_passively() -> None:
    """Lets torch's CPU threads sleep while they wait for one another.

    They spin by default, which is a little faster on an idle machine and ruinous on a
    busy one: with 10 processes on 2 cores a training step that takes 0.1 s took more
    than 10 s (measured).  It must be said before torch is loaded; children inherit it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _told(error: object, code: int) -> int:
    sys.stderr.write(f"nkat-search: {error}\n")
    return code
