"""What an experiment's folder was made of, kept beside it: no old run is taken for a new one."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainer.checkpoint import resolve_checkpoint
from trainer.checkpoint.format import MANIFEST
from trainer.errors import RecipeError
from trainer.evaluate.converted import readable_checkpoint
from trainer.files import write_whole
from trainer.recipe import Recipe

FILES, CHECKPOINTS = BESIDE_KEYS = ("files", "checkpoints")
"""Names in the note of what is no key: digests of the files that the keys name, and of models."""


def checkpoint_digest(checkpoint: Path) -> str:
    """64 hex digits that follow from a checkpoint's content, or from a run's newest one.

    Raises CheckpointError where there is none.
    """
    manifest = resolve_checkpoint(readable_checkpoint(checkpoint)) / MANIFEST
    return hashlib.sha256(manifest.read_bytes()).hexdigest()


def require_made_of(
    folder: Path,
    keys: Mapping[str, Any],
    checkpoints: Sequence[Path],
    completed: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> None:
    """Note that a folder is made from `keys`, the files that they name, and `checkpoints`.

    `keys`: as JSON; `completed`: earlier ones, with what those that came later are by default. To
    be called before anything is written into the folder, and each time before what is there is gone
    on with. Raises RecipeError where it holds what was made of something else, or of nobody knows
    what.
    """
    note = folder.with_name(f"{folder.name}.made-of.json")
    wanted: dict[str, Any] = {**json.loads(json.dumps(keys))}
    files = {name for name in _texts(wanted) if Path(name).is_file()}
    wanted[FILES] = {
        name: hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in sorted(files)
    }
    wanted[CHECKPOINTS] = [checkpoint_digest(one) for one in checkpoints]
    if not (folder.is_dir() and any(folder.iterdir())):
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_whole(note, json.dumps(wanted, indent=1) + "\n")
        return
    known = json.loads(note.read_bytes()) if note.is_file() else None
    if known is not None:
        beside = {name: known.pop(name, None) for name in BESIDE_KEYS}
        known = {**completed(known), **beside}
    if known != wanted:
        raise RecipeError(
            f"{folder}: what is there was made of {_difference(known, wanted)}; delete the folder"
            " to make it anew"
        )


def is_trained(recipe: Recipe) -> bool:
    """Whether the recipe's run has ended at its last step; raises as `require_made_of` does."""
    run = Path(recipe.run)
    base = [] if recipe.init_from is None else [Path(recipe.init_from)]
    require_made_of(run, recipe.model_dump(mode="json"), base, _with_later_keys)
    status = run / "status.json"
    if not status.is_file():
        return False
    known = json.loads(status.read_bytes())
    return bool(known.get("state") == "done" and known.get("step") == recipe.steps)


def _with_later_keys(keys: dict[str, Any]) -> dict[str, Any]:
    """An earlier recipe as one of today; itself where it is none any more."""
    try:
        return Recipe.model_validate(keys).model_dump(mode="json")
    except (ValidationError, RecipeError):
        return keys


def _texts(keys: Any) -> Iterator[str]:
    """All texts among the values of keys, however deep."""
    if isinstance(keys, str):
        yield keys
    elif isinstance(keys, Mapping | list):
        for value in keys.values() if isinstance(keys, Mapping) else keys:
            yield from _texts(value)


def _difference(known: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> str:
    if known is None:
        return "nobody knows what"
    names = [name for name in {**known, **wanted} if known.get(name) != wanted.get(name)]
    return f"another {', '.join(names)}"
