"""What a corpus is made from: the settings, the versions of its sources, and the key under which
it is cached.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.corpus.reading.files import InputFile, list_files
from trainer.corpus.reading.record import ReadOptions
from trainer.corpus.rules import rule_descriptions
from trainer.errors import RecipeError
from trainer.recipe import CorpusSection

RULES = 3
"""Counted up when the builder makes other shards of the same settings."""

LIBRARIES = ("datatrove", "ftfy", "py3langid", "rensa", "spacy", "tokenizers", "webdataset")
NOT_CONTENT = {"path", "workers", "slurm", "anonymous"}
"""Keys of the section that change nothing in the shards."""


@dataclass(frozen=True)
class Input:
    """The documents that a corpus is made from, and what is kept of where they came from.

    `settings`: what the recipe says of them; `versions`: of what is read, for the manifest;
    `identity`: what the key of the corpus holds beside these. `files` lists the files to read as
    `options` say, and writes them where it must: nobody asks before a build. `left_out`: files of
    JSON lines with what the source itself left out, for the audit. `task_bytes`: input of a task,
    where it is not the section's `task_mib`; the shards do not depend on it.
    """

    settings: dict[str, Any]
    versions: dict[str, Any]
    options: ReadOptions
    files: Callable[[], list[InputFile]]
    identity: list[Any] = field(default_factory=list)
    left_out: tuple[str, ...] = ()
    task_bytes: int | None = None


def text_input(section: CorpusSection) -> Input:
    """The files that the section names, in order; RecipeError or DataError where one is absent."""
    files = list_files(section.files, anonymous=section.anonymous)
    return Input(
        settings={"files": list(section.files), "packages": []},
        versions={"files": len(files), "bytes": sum(file.bytes for file in files)},
        options=ReadOptions(
            section.text_key, section.id_key, section.limits, anonymous=section.anonymous
        ),
        files=lambda: files,
        identity=[[file.path, file.bytes, file.version] for file in files],
    )


def corpus_settings(section: CorpusSection, tokenizer: str | None, given: Input) -> dict[str, Any]:
    """What the recipe decides of a corpus's content; `tokenizer` is the fingerprint of a given
    one, or None.
    """
    settings = section.model_dump(mode="json", exclude=NOT_CONTENT) | given.settings
    settings["vocab"] = section.vocab if tokenizer is None else None
    return {**settings, "tokenizer": tokenizer, "builder_rules": RULES}


def corpus_inputs(given: Input) -> dict[str, Any]:
    """The versions of what is read, and of the libraries used."""
    return {**given.versions, "libraries": _library_versions()}


def corpus_key(section: CorpusSection, tokenizer: str | None, given: Input) -> str:
    """One key for one content: it changes with the settings, the versions, and any file read."""
    parts: list[Any] = [corpus_settings(section, tokenizer, given), corpus_inputs(given)]
    parts += given.identity
    parts += [_version(path) for path in _files_of_rules(section)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _library_versions() -> dict[str, str]:
    try:
        return {name: importlib.metadata.version(name) for name in LIBRARIES}
    except importlib.metadata.PackageNotFoundError as error:
        raise RecipeError(
            f"building a corpus needs the package {error.name}, which is not installed: install"
            " lyceum[data]"
        ) from None


def _files_of_rules(section: CorpusSection) -> list[str]:
    found = []
    for key, control in rule_descriptions().items() if section.rules is not None else ():
        settings = getattr(section.rules, key)
        found += control.files(settings) if settings is not None else []
    return found


def _version(path: str) -> list[Any]:
    try:
        status = Path(path).expanduser().stat()
    except OSError:
        return [path, None]  # The rule that reads it says what is wrong.
    return [path, status.st_size, status.st_mtime_ns]
