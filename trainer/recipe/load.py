"""Reading a recipe from its file."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.errors import RecipeError
from trainer.hub.foreign import checkpoint_of
from trainer.parsing import read_json
from trainer.recipe import reading
from trainer.recipe.recipe import Recipe
from trainer.recipe.rope import RopeScaling, reads_original_context


def with_base_model(keys: dict[str, Any]) -> dict[str, Any]:
    """The recipe's keys, with the `model` section of `init_from` under what they say themselves.

    Without `init_from`, or where a section stands complete, they are what they were. Of a run that
    goes on `init_from` may be gone: its own checkpoints know the model too. Raises RecipeError
    where the section is needed and there is no checkpoint.
    """
    base, own = keys.get("init_from"), keys.get("model")
    if not isinstance(base, str) or not isinstance(own, dict | None):
        return keys
    found = _saved_model(Path(base)) or _saved_model(Path(str(keys.get("run", ""))))
    if found is None:
        if own is None:
            if other := checkpoint_of(Path(base)):
                raise RecipeError(f"init_from: {base} {other}")
            raise RecipeError(
                f"init_from: {base} holds no checkpoint to take the model section from; name a run"
                " or a checkpoint folder, or write the section"
            )
        return keys
    saved, trained = found
    return {**keys, "model": {**saved, **_over(saved, own or {}, trained)}}


def _over(saved: dict[str, Any], own: dict[str, Any], trained: int | None) -> dict[str, Any]:
    """A recipe's own keys of the model section, its scaling completed: one of the base's type from
    that, another by the tokens that the base was `trained` on, which it is to stretch.
    """
    scaling, base = own.get("rope_scaling"), saved.get("rope_scaling")
    if not isinstance(scaling, dict):
        return own
    usual: str = RopeScaling.model_fields["type"].default  # older checkpoints know no other
    kind = base.get("type", usual) if isinstance(base, dict) else usual
    if isinstance(base, dict) and scaling.get("type", kind) == kind:
        return {**own, "rope_scaling": {**base, **scaling}}
    if trained is None or not reads_original_context(scaling.get("type", kind)):
        return own
    return {**own, "rope_scaling": {"original_context": trained, **scaling}}


def _saved_model(base: Path) -> tuple[dict[str, Any], int | None] | None:
    """The model section of a checkpoint or a run's newest, and the longest sequence, in tokens,
    that it was trained on, where that is recorded.
    """
    folders = [base, *sorted(base.glob("checkpoints/step-*"), reverse=True)]
    for folder in folders:
        try:
            saved = read_json((folder / "checkpoint.json").read_bytes())
            model, trained = saved["model"], saved.get("counters", {}).get("longest_sequence")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
            continue
        if isinstance(model, dict):
            return model, trained
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
