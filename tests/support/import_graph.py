"""Who imports whom, read from source text; nothing is imported.

Every import counts: those inside functions and those for types alone as well.
"""

from __future__ import annotations

import ast
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One source file.

    Args:
        name: dotted, a package by its own name (`search.cli` for search/cli/__init__.py).
        lines: length of the file.
        own: modules of the tree that it imports, most exact: `from a import b` names
            `a.b` where that is a module, otherwise `a`.
        foreign: top-level names of everything else that it imports.
    """

    name: str
    lines: int
    own: frozenset[str]
    foreign: frozenset[str]

    @property
    def room(self) -> str:
        """`search`, `model` and `storage` have rooms; another module is its own."""
        return ".".join(self.name.split(".")[:2])


Tree = Mapping[str, Module]
"""Modules by name."""


def read_tree(root: Path, *tops: str) -> Tree:
    """The modules under these folders, or these files, of a repository."""
    files = [
        path
        for top in tops
        for path in ([root / top] if top.endswith(".py") else sorted((root / top).rglob("*.py")))
    ]
    return tree_of({p.relative_to(root).as_posix(): p.read_text(encoding="utf-8") for p in files})


def tree_of(sources: Mapping[str, str]) -> Tree:
    """The modules of source texts, by path from the root."""
    paths = {_name(path): path for path in sources}
    tree = {}
    for name, path in paths.items():
        package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
        found = list(_imports(ast.parse(sources[path], path), package, paths))
        own = {n for n in found if n in paths}
        tree[name] = Module(
            name=name,
            lines=len(sources[path].splitlines()),
            own=frozenset(own - {name}),
            foreign=frozenset(n.split(".")[0] for n in found if n not in paths),
        )
    return tree


def _name(path: str) -> str:
    return ".".join(PurePosixPath(path).with_suffix("").parts).removesuffix(".__init__")


def _imports(tree: ast.AST, package: str, known: Container[str]) -> Iterator[str]:
    """What the statements name; from packages the module, where there is one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in known else base


def circle(tree: Tree) -> tuple[str, ...]:
    """Modules that import each other in a circle, the first one repeated; () if none do."""
    clear: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> tuple[str, ...]:
        if name in way:
            return (*way[way.index(name) :], name)
        if name not in clear:
            for imported in sorted(tree[name].own):
                if found := walk(imported, (*way, name)):
                    return found
            clear.add(name)
        return ()

    return next((found for name in tree if (found := walk(name, ()))), ())
