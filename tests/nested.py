"""Keys of a recipe by one name each."""

from typing import Any


def nested(tree: dict[str, Any], keys: dict[str, Any]) -> dict[str, Any]:
    """The tree with `keys` in it, "section__name" for what stands in a section."""
    for key, value in keys.items():
        *sections, name = key.split("__")
        inner = tree
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    return tree
