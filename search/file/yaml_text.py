"""A YAML 1.2 text as plain values, each with the line it stands on.

YAML 1.2 because there `off` is a word (a conv stem), not a boolean.  Every
problem with a file is told in one sentence: file, line, key path, value, rule.
"""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from nkat_errors import BadInput

KeyPath = tuple[str | int, ...]


class Problem(Exception):
    """What is wrong with the value at `path`; `YamlSource.error` adds file and line."""

    def __init__(self, path: KeyPath, text: str) -> None:
        super().__init__(text)
        self.path = path
        self.text = text


def dotted(path: KeyPath) -> str:
    """`("datasets", 1, "limit")` as `datasets[1].limit`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def nearest(name: object, known: Iterable[str]) -> str:
    """`; did you mean 'depth'?` for a near miss, else the list of what is known."""
    names = list(known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(sorted(names))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlSource:
    """A parsed file: `data` in plain Python values, `lines` (1-based) by key path."""

    name: str
    data: dict[str, Any]
    lines: dict[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """The line of the key, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def error(self, problem: Problem) -> BadInput:
        where = f"{self.name} line {self.line(problem.path)}"
        return BadInput(f"{where}: {problem.text}")


def read_file(path: Path) -> str:
    """The text of a YAML file.

    Raises:
        BadInput: it is missing, a folder, unreadable or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(
            f"{path}: there is no such file (configs/search.yaml is the full search, "
            "configs/laptop.yaml the one cut down)"
        ) from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not a UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None


def read_yaml(text: str, *, name: str) -> YamlSource:
    """Parses a YAML mapping.

    Args:
        text: the YAML text.
        name: what error messages call it (a path).

    Raises:
        BadInput: not YAML (tabs and duplicate keys included), or not a mapping.
    """
    yaml = YAML(typ="rt")
    yaml.version = (1, 2)
    try:
        tree = yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise BadInput(f"{name} line {line}: {_syntax(error, text, line)}") from None
    except YAMLError as error:
        raise BadInput(f"{name}: not readable as YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(tree, CommentedMap):
        kind = "empty" if tree is None else f"a {_kind(tree)}"
        raise BadInput(
            f"{name} line 1: the file is {kind}, but must be a YAML mapping "
            "(`key: value` lines, as in configs/search.yaml)"
        )
    lines: dict[KeyPath, int] = {(): 1}
    return YamlSource(name=name, data=_plain(tree, (), lines), lines=lines)


def _syntax(error: MarkedYAMLError, text: str, line: int) -> str:
    rows = text.splitlines()
    row = rows[line - 1] if line <= len(rows) else ""
    if "\t" in row[: len(row) - len(row.lstrip())] or "'\\t'" in str(error.problem):
        return f"{row.strip()!r} is indented with a tab, but YAML wants spaces"
    problem = " ".join(str(error.problem or error.context).split())
    if problem.startswith("found duplicate key"):
        key = problem.split('"')[1] if '"' in problem else row.split(":")[0].strip()
        return f"key {key!r} stands twice in the same mapping; remove one"
    return f"not readable as YAML near {row.strip()!r} ({problem})"


def _kind(value: object) -> str:
    if isinstance(value, CommentedSeq):
        return "list"
    return "text" if isinstance(value, str) else type(value).__name__


def _plain(node: Any, path: KeyPath, lines: dict[KeyPath, int]) -> Any:
    if isinstance(node, CommentedMap):
        result: dict[str, Any] = {}
        for key, value in node.items():
            name = key if isinstance(key, str) else str(key)
            here = (*path, name)
            lines[here] = node.lc.key(key)[0] + 1 if key in node.lc.data else lines[path]
            result[name] = _plain(value, here, lines)
        return result
    if isinstance(node, CommentedSeq):
        items = []
        for index, value in enumerate(node):
            here = (*path, index)
            lines[here] = node.lc.item(index)[0] + 1
            items.append(_plain(value, here, lines))
        return items
    if isinstance(node, bool) or node is None:
        return node
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    if isinstance(node, datetime.date):
        return node.isoformat()
    return node
