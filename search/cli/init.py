"""`nkat-search init`: a search file to start from, in the current folder."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command("init")(init)


def init(
    *,
    laptop: Annotated[
        bool, typer.Option("--laptop", help="The search cut down to minutes on two cores.")
    ] = False,
    source: Annotated[
        bool, typer.Option("--source", help="The source's own recipe, word for word.")
    ] = False,
) -> None:
    """Write a commented search file, search.yaml, into the current folder.

    `nkat-search run` and `create` take it from there.  The schema that its first line names
    comes with it: an editor that knows YAML completes and checks the file.  No file is
    replaced.

        nkat-search init
        nkat-search init --laptop
    """
    from nkat_errors import BadInput
    from search.file.shipped import FULL, LAPTOP, SCHEMA, SOURCE, STARTED, shipped_file

    if laptop and source:
        raise BadInput("--laptop and --source: choose one of them")
    name = LAPTOP if laptop else SOURCE if source else FULL
    text = shipped_file(name).read_text(encoding="utf-8")
    schema = STARTED.with_name(SCHEMA)
    try:
        with STARTED.open("x", encoding="utf-8") as stream:
            stream.write(text)
        typer.echo(f"written: {STARTED}")
        if not schema.exists():
            schema.write_text(shipped_file(SCHEMA).read_text(encoding="utf-8"), encoding="utf-8")
            typer.echo(f"written: {schema}")
    except FileExistsError:
        raise BadInput(
            f"{STARTED}: is there already and is not replaced; rename it, or go to another folder"
        ) from None
    except OSError as error:
        raise BadInput(f"{error.filename}: cannot be written ({error.strerror})") from None
    typer.echo(f"next: nkat-search rehearse, then nkat-search run (both read {STARTED})")
