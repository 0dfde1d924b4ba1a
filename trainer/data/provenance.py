"""What a corpus is made from: the settings, the versions of its sources, and the key under which
it is cached.
"""

import hashlib
import importlib.metadata
import json
from typing import Any

from trainer.data.documents import text_files
from trainer.data.packages import package_versions, resolve_packages
from trainer.recipe import CorpusSection

RULES = 1
"""Counted up when the builder makes other shards of the same settings."""

LIBRARIES = ("rensa", "tokenizers", "webdataset")
SETTINGS = (
    "source",
    "files",
    "packages",
    "vocab",
    "validation",
    "shard_tokens",
    "minimum_characters",
    "near_duplicates",
    "seed",
)


def corpus_settings(section: CorpusSection, tokenizer: str | None) -> dict[str, Any]:
    """What the recipe decides of a corpus's content; `tokenizer` is the fingerprint of a given
    one, or None.
    """
    settings = {name: getattr(section, name) for name in SETTINGS}
    settings["files"] = list(section.files) if section.source == "text" else []
    settings["packages"] = list(section.packages) if section.source == "embedded" else []
    settings["vocab"] = section.vocab if tokenizer is None else None
    return {**settings, "tokenizer": tokenizer, "rules": RULES}


def corpus_inputs(section: CorpusSection) -> dict[str, Any]:
    """The versions of the packages read, or the number and size of the text files; and of the
    libraries used.

    Raises RecipeError or DataError when a source is not there.
    """
    libraries = {name: importlib.metadata.version(name) for name in LIBRARIES}
    if section.source == "embedded":
        return {
            "packages": package_versions(resolve_packages(section.packages)),
            "libraries": libraries,
        }
    paths = text_files(section.files)
    total = sum(path.stat().st_size for path in paths)
    return {"files": len(paths), "bytes": total, "libraries": libraries}


def corpus_key(section: CorpusSection, tokenizer: str | None) -> str:
    """One key for one content: it changes with the settings, the versions, and any text file's
    size or time.
    """
    parts: list[Any] = [corpus_settings(section, tokenizer), corpus_inputs(section)]
    if section.source == "text":
        for path in text_files(section.files):
            status = path.stat()
            parts.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
