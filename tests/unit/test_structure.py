"""The house keeps its order: who may import whom, no circles, no module too long."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from import_graph import Tree, circle, read_tree, tree_of

ROOT = Path(__file__).parents[2]
LONGEST = 400
"""Lines of a module."""

# What each room may import of its own floor.  A room stands below those that use it: it may
# name only rooms above its own line, so no two can need each other.  A room that is
# not used any more is taken out again (a test says so).
ROOMS_OF_SEARCH: dict[str, set[str]] = {
    "exit_codes": set(),
    "last_resort": set(),
    "logs": set(),
    "outputs": set(),
    "provenance": set(),
    "terminal": set(),
    "space": set(),
    "score": set(),
    "file": {"score", "space"},
    "study": {"file", "provenance", "score", "space"},
    "export": {"file", "provenance", "score", "space", "study", "terminal"},
    "objective": {"file", "provenance", "score", "study"},
    "report": {"file", "provenance", "score", "space", "study"},
    "retrain": {"export", "file", "provenance", "score", "terminal"},
    "trackers": {"file", "space", "study"},
    "trained": {"retrain", "terminal"},
    "notebook": {"export", "file", "retrain", "study", "trained"},
    "dashboard": {"export", "file", "report", "study", "terminal"},
    "worker": {"exit_codes", "file", "logs", "objective", "study"},
    "service": {
        "dashboard",
        "exit_codes",
        "export",
        "file",
        "logs",
        "outputs",
        "provenance",
        "report",
        "space",
        "study",
        "terminal",
        "trackers",
        "worker",
    },
    "rehearsal": {"file", "objective", "service", "study", "terminal", "worker"},
    "cli": {
        "dashboard",
        "exit_codes",
        "export",
        "file",
        "last_resort",
        "logs",
        "objective",
        "outputs",
        "provenance",
        "rehearsal",
        "report",
        "retrain",
        "score",
        "service",
        "study",
        "terminal",
        "trained",
        "worker",
    },
    "__main__": {"cli"},
}
ROOMS_OF_MODEL: dict[str, set[str]] = {
    "errors": set(),
    "known_sets": set(),
    "config": {"errors"},
    "data": {"known_sets"},
    "kernels": set(),
    "augment": {"config", "data"},
    "network": {"config", "kernels"},
    "training": {"augment", "config", "data", "errors", "network"},
    "fast": {"augment", "config", "data", "kernels", "network", "training"},
    "runners": {"fast", "training"},
}


@pytest.fixture(scope="module")
def tree() -> Tree:
    return read_tree(ROOT, "search", "model", "storage", "nkat_errors.py")


def strangers(tree: Tree) -> list[str]:
    """Imports across the house that have no right to be."""
    forbidden = {
        "model": {"search", "storage", "optuna"},
        "storage": {"search", "model", "torch"},
        "nkat_errors": {"search", "model", "storage"},
    }
    return [
        f"{name} imports {imported}"
        for name, module in tree.items()
        for imported in sorted(module.own | module.foreign)
        if imported.split(".")[0] in forbidden.get(name.split(".")[0], set())
    ]


def crossings(tree: Tree, top: str) -> dict[str, set[str]]:
    """Room to room: what the modules of each room under `top` import of the others."""
    found: dict[str, set[str]] = {}
    for module in tree.values():
        if module.name.startswith(f"{top}."):
            imported = {tree[name].room for name in module.own} - {module.room, top}
            others = {room.split(".")[1] for room in imported if room.startswith(f"{top}.")}
            found.setdefault(module.room.split(".")[1], set()).update(others)
    return found


def not_allowed(found: Mapping[str, set[str]], allowed: Mapping[str, set[str]]) -> list[str]:
    """What is imported and not in the table."""
    return [
        f"{room} imports {other}"
        for room in sorted(found)
        for other in sorted(found[room] - allowed.get(room, set()))
    ]


def too_long(tree: Tree) -> list[str]:
    return [f"{m.name}: {m.lines} lines" for m in tree.values() if m.lines > LONGEST]


def test_the_tree_is_read_whole(tree: Tree) -> None:
    assert len(tree) > 180
    assert tree["search.cli.run"].room == "search.cli"
    assert "search.cli" in tree["search.__main__"].own
    assert "torch" in tree["model.network.vit"].foreign
    assert "optuna" in tree["storage.board"].foreign | tree["storage.optuna_internals"].foreign


def test_model_and_storage_know_neither_each_other_nor_search(tree: Tree) -> None:
    assert strangers(tree) == []


@pytest.mark.parametrize(
    ("top", "table"), [("search", ROOMS_OF_SEARCH), ("model", ROOMS_OF_MODEL)]
)
def test_rooms_import_what_the_table_allows_and_no_more(
    tree: Tree, top: str, table: dict[str, set[str]]
) -> None:
    found = crossings(tree, top)
    assert not_allowed(found, table) == []
    assert not_allowed(table, found) == [], "in the table, but imported by nobody"
    assert found.keys() == table.keys()


@pytest.mark.parametrize("table", [ROOMS_OF_SEARCH, ROOMS_OF_MODEL])
def test_the_table_itself_goes_one_way(table: dict[str, set[str]]) -> None:
    order = list(table)
    for room, others in table.items():
        assert others <= set(order[: order.index(room)]), room


def test_no_modules_import_each_other_in_a_circle(tree: Tree) -> None:
    assert circle(tree) == ()


def test_no_module_is_too_long(tree: Tree) -> None:
    assert too_long(tree) == []


@pytest.mark.parametrize(
    ("sources", "rule", "said"),
    [
        (
            {"model/a.py": "from search import b", "search/b.py": ""},
            strangers,
            ["model.a imports search.b"],
        ),
        (
            {"model/a.py": "def f():\n    import optuna.samplers"},
            strangers,
            ["model.a imports optuna"],
        ),
        (
            {"storage/a.py": "if TYPE_CHECKING:\n    from torch import Tensor"},
            strangers,
            ["storage.a imports torch"],
        ),
        (
            {"storage/a.py": "import model.b.c", "model/b/c.py": ""},
            strangers,
            ["storage.a imports model.b.c"],
        ),
        (
            {"search/score/a.py": "from ..cli import run", "search/cli/run.py": ""},
            lambda tree: not_allowed(crossings(tree, "search"), ROOMS_OF_SEARCH),
            ["score imports cli"],
        ),
        (
            {"search/new/a.py": "import search.space", "search/space.py": ""},
            lambda tree: not_allowed(crossings(tree, "search"), ROOMS_OF_SEARCH),
            ["new imports space"],
        ),
        (
            {
                "search/a.py": "from search import b",
                "search/b.py": "def late():\n    from search.c import x",
                "search/c/__init__.py": "from .d import x",
                "search/c/d.py": "import search.a",
            },
            circle,
            ("search.a", "search.b", "search.c", "search.c.d", "search.a"),
        ),
        ({"model/a.py": "pass\n" * 401}, too_long, ["model.a: 401 lines"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_broken_rule_is_found(
    sources: dict[str, str], rule: Callable[[Tree], object], said: object
) -> None:
    assert rule(tree_of(sources)) == said
