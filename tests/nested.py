"""Keys of a recipe by one name each."""

from typing import Any


def nested(tree: dict[str, Any], keys: dict[str, Any]) -> dict[str, Any]:
    """The tree with `keys` in it, "section__name" for what stands in a section."""
    for key, value in keys.items():
        section, _, name = key.rpartition("__")
        (tree.setdefault(section, {}) if section else tree)[name] = value
    return tree
