"""A YAML 1.2 text as plain values, each with the line it stands on.

YAML 1.2 because there `off` is a word (a conv stem), not a boolean.  Every
problem with a file is told in one sentence: file, line, key path, value, rule.
"""

from __future__ import annotations

import datetime
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.representer import SafeRepresenter

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
            f"{path}: there is no such file (`nkat-search init` writes one to start from)"
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
            "(`key: value` lines, as `nkat-search init` writes them)"
        )
    plain = _PlainValues(text)
    try:
        data = plain.of(tree, (), 1)
    except Problem as problem:
        raise BadInput(f"{name} line {plain.lines[problem.path]}: {problem.text}") from None
    return YamlSource(name=name, data=data, lines=plain.lines)


class _NumbersOnOneLine(SafeRepresenter):
    """A list of numbers alone (a row of a matrix) is written on one line."""

    def represent_list(self, data: list[Any]) -> Any:
        numbers = bool(data) and all(type(item) in (int, float) for item in data)
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=numbers or None)


_NumbersOnOneLine.add_representer(list, _NumbersOnOneLine.represent_list)


def dump_yaml(plain: Mapping[str, Any]) -> str:
    """Plain values as YAML 1.2, keys in their order."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _NumbersOnOneLine
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 96
    stream = io.StringIO()
    yaml.dump(dict(plain), stream)
    return stream.getvalue()


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


class _PlainValues:
    """ruamel's tree as plain values, with the line of each in `lines`."""

    def __init__(self, text: str) -> None:
        self._rows = text.splitlines()
        self.lines: dict[KeyPath, int] = {(): 1}

    def of(self, node: Any, path: KeyPath, column: int) -> Any:
        """The plain value of a node that begins at `column` (0-based) of its line."""
        if isinstance(node, CommentedMap):
            return dict(self._items(node, path))
        if isinstance(node, CommentedSeq):
            return [self._item(node, path, index) for index in range(len(node))]
        if isinstance(node, bool) or node is None:
            return node
        if isinstance(node, float) and math.isinf(node):
            self._refuse_overflow(path, column)
        for kind in (int, float, str):
            if isinstance(node, kind):
                return kind(node)
        if isinstance(node, datetime.date):
            return node.isoformat()
        return node

    def _items(self, node: CommentedMap, path: KeyPath) -> Iterator[tuple[str, Any]]:
        for key, value in node.items():
            here = (*path, key if isinstance(key, str) else str(key))
            if key in node.lc.data:
                self.lines[here] = node.lc.key(key)[0] + 1
                column = node.lc.value(key)[1]
            else:  # merged in from an anchor
                self.lines[here], column = self.lines[path], 0
            yield str(here[-1]), self.of(value, here, column)

    def _item(self, node: CommentedSeq, path: KeyPath, index: int) -> Any:
        here = (*path, index)
        line, column = node.lc.item(index)
        self.lines[here] = line + 1
        return self.of(node[index], here, column)

    def _refuse_overflow(self, path: KeyPath, column: int) -> None:
        """`1e400` is a number that the user never wrote as infinity: name it as written."""
        row = self._rows[self.lines[path] - 1]
        written = re.match(r"[-+]?[0-9][-+_.0-9eE]*", row[column:])
        if written:
            raise Problem(
                path,
                f"{dotted(path)} = {written[0]}: must be within ±1.8e308, the range of a double",
            )
