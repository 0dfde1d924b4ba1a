"""A name of the house means one thing: no two modules give one to different things."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def defined(source: str) -> Iterator[str]:
    """The public classes and type aliases of a module."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name[:1].isupper() and not name.isupper():
                yield name


def homonyms(modules: dict[str, str]) -> dict[str, list[str]]:
    """Names that several modules define, private ones aside, with those modules."""
    found = defaultdict(list)
    for path, source in modules.items():
        for name in set(defined(source)):
            if not name.startswith("_"):
                found[name].append(path)
    return {name: sorted(paths) for name, paths in found.items() if len(paths) > 1}


def test_no_class_has_a_name_that_means_something_else_elsewhere() -> None:
    """Would catch a second Place, Rows, Counts or Outcome, of which a reader must guess which."""
    sources = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for package in ("trainer", "kernels", "launch")
        for path in sorted((ROOT / package).rglob("*.py"))
    }
    assert homonyms(sources) == {}


def test_a_homonym_would_be_found() -> None:
    """Negative control: classes and aliases count, private names and constants do not."""
    one = "class Place: ...\nRows = list[int]\nclass _Task: ...\nLIMIT = 3\n"
    two = "class Rows: ...\nPlace = int | str\nclass _Task: ...\nLIMIT = 4\n"
    assert homonyms({"a.py": one, "b.py": two}) == {
        "Place": ["a.py", "b.py"],
        "Rows": ["a.py", "b.py"],
    }
