"""Recipes that come with the package, found by their bare name."""

from pathlib import Path

RECIPES = Path(__file__).parent / "recipes"


def find_recipe(name: str) -> Path:
    """The recipe file that `name` means: a path, or the bare name of a shipped recipe ("tiny")."""
    shipped = RECIPES / f"{name}.yaml"
    if not Path(name).is_file() and Path(name).name == name and shipped.is_file():
        return shipped
    return Path(name)
