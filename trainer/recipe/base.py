"""What a recipe takes over from the checkpoint that it starts from, read without any of torch."""

import json
from pathlib import Path
from typing import Any

from trainer.errors import RecipeError


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
            raise RecipeError(
                f"init_from: {base} holds no checkpoint to take the model section from; name a run"
                " or a checkpoint folder, or write the section"
            )
        return keys
    return {**keys, "model": {**saved, **(own or {})}}


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
