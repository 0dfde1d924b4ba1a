"""Reading a recipe from its file."""

from collections.abc import Sequence
from pathlib import Path

from trainer.errors import RecipeError
from trainer.recipe import reading
from trainer.recipe.base import with_base_model
from trainer.recipe.recipe import Recipe


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in the YAML file `path`, with KEY=VALUE overrides applied in their order.

    Keys are dotted (`model.layers=8`), values are YAML (`profile.steps=[3,5]`). Raises RecipeError
    with one line that names the file, the key and the mend.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: no such recipe; give the path of a YAML file") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error
    keys = reading.parse(text, str(path))
    overridden = [reading.override(keys, text) for text in overrides]
    return reading.validated(Recipe, with_base_model(keys), str(path), overridden)
