"""`nkat-search schema`: the JSON schema of a search file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command("schema")(schema)


def schema(
    *,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it here, not on stdout.")
    ] = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="As a page for people, in Markdown.")
    ] = False,
) -> None:
    """The JSON schema of a search file: every key with its type, range, unit and default.

    An editor that knows YAML completes and checks with it a file that begins with

        # yaml-language-server: $schema=search.schema.json

        nkat-search schema --out configs/search.schema.json
        nkat-search schema --reference --out docs/search-file.md
    """
    from nkat_errors import BadInput
    from search.file.json_schema import schema_text
    from search.file.reference import reference_text

    text = reference_text() if reference else schema_text()
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be written ({error.strerror})") from None
    typer.echo(f"written: {out}")
