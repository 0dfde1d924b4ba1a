"""Reading a recipe from its file."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.errors import RecipeError
from trainer.hub.foreign import checkpoint_of
from trainer.recipe import reading
from trainer.recipe.recipe import Recipe


def with_base_model(keys: dict[str, Any]) -> dict[str, Any]:
    """The recipe's keys, with the `model` section of `init_from` under what they say themselves.

    Without `init_from`, or where a section stands complete, they are what they were. Of a run that
    goes on `init_from` may be gone: its own checkpoints know the model too. Raises RecipeError
    where the section is needed and there is no checkpoint.
    """
    base, own = keys.get("init_from"), keys.get("model")
    if not isinstance(base, str) or not isinstance(own, dict | None):
        return keys
    saved = _saved_model(Path(base)) or _saved_model(Path(str(keys.get("run", ""))))
    if saved is None:
        if own is None:
            if other := checkpoint_of(Path(base)):
                raise RecipeError(f"init_from: {base} {other}")
            raise RecipeError(
                f"init_from: {base} holds no checkpoint to take the model section from; name a run"
                " or a checkpoint folder, or write the section"
            )
        return keys
    return {**keys, "model": {**saved, **_over(saved, own or {})}}


def _over(saved: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A recipe's own keys of the model section, a scaling of the base's type completed from it."""
    scaling, base = own.get("rope_scaling"), saved.get("rope_scaling")
    if not isinstance(scaling, dict) or not isinstance(base, dict):
        return own
    kind = base.get("type", "llama3")  # older checkpoints know no other
    if scaling.get("type", kind) != kind:
        return own
    return {**own, "rope_scaling": {**base, **scaling}}


def _saved_model(base: Path) -> dict[str, Any] | None:
    folders = [base, *sorted(base.glob("checkpoints/step-*"), reverse=True)]
    for folder in folders:
        try:
            model = json.loads((folder / "checkpoint.json").read_bytes())["model"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(model, dict):
            return model
    return None


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in the YAML file `path`, with KEY=VALUE overrides applied in their order.

    Keys are dotted (`model.layers=8`), values are YAML (`profile.steps=[3,5]`). Raises RecipeError
    with one line that names the file or the command line, the key and the mend.
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
    before = copy.deepcopy(keys)
    overridden = [reading.override(keys, text) for text in overrides]
    return reading.validated(
        Recipe, with_base_model(keys), str(path), overridden, lambda: with_base_model(before)
    )
