"""The command line `nkat-search`: one module a command.

Modules of commands import nothing heavy at their top, so that `--help` is quick;
what a command needs is imported when it runs.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from nkat_errors import BadInput, NkatError

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""A wrong command line.  Typer carries its own copy of Click and names only the
subclass; from click.exceptions another class would come."""

COMMANDS = (
    "run",
    "create",
    "worker",
    "orchestrate",
    "status",
    "dashboard",
    "export",
    "backup",
    "restore",
    "train",
    "smoke",
    "describe",
    "explain",
    "data",
    "rehearse",
    "healthcheck",
)
"""Modules of this package, in the order of `--help`; each has `register(app)`."""

app = typer.Typer(
    name="nkat-search",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    # `--conv_stem` and `--conv-stem` are the same option.
    context_settings={
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
    },
    help="""Distributed two-stage search for a small Vision Transformer (NKAT).

Stage 1 trains a configuration on CIFAR-10; only one that passes the gate is trained
on the other sets (stage 2), and the Global TPE score of all of them is maximised.

    nkat-search run --config configs/laptop.yaml     the whole search, this machine
    nkat-search status --watch                       trials, workers, best score
    nkat-search export --out best.yaml               the best configuration
    nkat-search train --config best.yaml             train it again and compare

Exit codes: 0 done, 1 failed or NO-GO, 2 bad input.""",
)


def _register() -> None:
    for name in COMMANDS:
        module = f"{__name__}.{name}"
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module).register(app)


_register()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code.

    Errors the user can act on are one line on stderr; any other exception is a bug
    and keeps its traceback.
    """
    wait_passively()
    try:
        code = app(
            args=None if argv is None else list(argv),
            standalone_mode=False,
            prog_name="nkat-search",
        )
    except BadInput as error:
        return _told(error, EXIT_BAD_INPUT)
    except NkatError as error:
        return _told(error, EXIT_FAILED)
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("nkat-search: interrupted\n")
        return EXIT_INTERRUPTED
    except typer.Exit as stop:
        return stop.exit_code
    except UsageError as error:
        return _usage(error)
    return code if isinstance(code, int) else 0


def _usage(error: Any) -> int:
    """Names the fault and where help is; without any arguments, is the help itself."""
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        if message:
            sys.stdout.write(f"{message}\n")
        return EXIT_BAD_INPUT
    command = error.ctx.command_path if error.ctx is not None else "nkat-search"
    return _told(f"{message.rstrip('.')}; see `{command} --help`", EXIT_BAD_INPUT)


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
