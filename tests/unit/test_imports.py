"""Which room may import which, read from the source text."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for room in ("model", "search", "storage")
    for path in sorted((ROOT / room).rglob("*.py"))
}


def imported(path: Path, *, at_top: bool) -> set[str]:
    """Modules that a file names in its imports.

    Args:
        path: the file.
        at_top: only those at its top, what it imports for its types included.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes: list[ast.AST] = list(ast.walk(tree))
    if at_top:
        blocks = [node.body for node in tree.body if isinstance(node, ast.If)]
        nodes = [*tree.body, *(node for block in blocks for node in block)]
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def names_of(imports: set[str], *packages: str) -> set[str]:
    return {name for name in imports if any(f"{name}.".startswith(f"{p}.") for p in packages)}


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [("model", ("search", "storage", "optuna")), ("storage", ("search", "model", "torch"))],
)
def test_a_lower_room_knows_none_above_or_beside_it(room, forbidden):
    for module, path in MODULES.items():
        if module.split(".")[0] == room:
            assert not names_of(imported(path, at_top=False), *forbidden), module


def test_nothing_but_the_entry_points_imports_the_command_line():
    for module, path in MODULES.items():
        if not module.startswith("search.cli") and module != "search.__main__":
            assert not names_of(imported(path, at_top=False), "search.cli"), module


def test_no_modules_import_each_other_in_a_circle():
    edges = {
        module: {name for name in imported(path, at_top=True) if name in MODULES} - {module}
        for module, path in MODULES.items()
    }
    # A package's own face may import its parts, and a part its package's other parts.
    edges = {
        module: {name for name in found if not module.startswith(f"{name}.")}
        for module, found in edges.items()
    }
    done: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module not in done:
            for name in sorted(edges[module]):
                walk(name, (*way, module))
            done.add(module)

    for module in MODULES:
        walk(module, ())
