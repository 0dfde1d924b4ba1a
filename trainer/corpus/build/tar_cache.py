"""Where the shards that were made of tars lie in the cache, and which a list of tars had last."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainer.addresses import without_secrets
from trainer.corpus.reading.remote import scheme_of
from trainer.data.manifest import MANIFEST_NAME
from trainer.files import cache_folder, write_whole
from trainer.recipe.data import MixtureSource


def folder_of(content: list[Any], end: str = "") -> Path:
    """The place in the cache that this content names, by its hash."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return cache_folder("tars") / f"{digest[:24]}{end}"


def remember(part: MixtureSource, made_with: list[Any], out: Path) -> None:
    """Note which folder has the texts of remote tars: where their server cannot be asked, as on a
    cluster's nodes without a network, they are known by the recipe alone.

    `made_with`: what else decides on them. Nothing is noted in a cache that cannot be written.
    """
    note = _note(part, made_with)
    if any(map(scheme_of, part.corpus.split("::"))) and _noted(note) != out:
        with suppress(OSError):
            write_whole(note, json.dumps({"folder": out.name}))


def remembered(part: MixtureSource, made_with: list[Any]) -> Path | None:
    """The folder that was noted last; None where there is none."""
    found = _noted(_note(part, made_with))
    return found if found is not None and (found / MANIFEST_NAME).is_file() else None


def _note(part: MixtureSource, made_with: list[Any]) -> Path:
    named = [without_secrets(part.corpus), part.text, part.validation]
    return folder_of([named, made_with], ".json")


def _noted(note: Path) -> Path | None:
    try:
        return cache_folder("tars") / str(json.loads(note.read_bytes())["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
