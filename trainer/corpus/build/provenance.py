"""What a corpus is made from: its settings, the versions of its sources, and the cache key that
follows from both.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainer.addresses import without_secrets
from trainer.corpus.reading.files import InputFile, list_files
from trainer.corpus.reading.record import ReadOptions
from trainer.corpus.reading.webdataset import tar_input
from trainer.corpus.rules import rule_descriptions
from trainer.errors import RecipeError
from trainer.recipe import CorpusSection
from trainer.recipe.data import RemoteSection

RULES = 23
"""Version of the builder: raised whenever the same settings would give other shards."""

TAR_RULES = 2
"""Version of the reading of tars: raised whenever the same tars would give other documents."""

LIBRARIES = ("datatrove", "ftfy", "py3langid", "rensa", "spacy", "tokenizers", "webdataset")
DEFAULT_TEXT_KEY = CorpusSection.model_fields["text_key"].default
NOT_CONTENT = {"path", "workers", "slurm", "anonymous"}
"""Keys of the section on which the shards do not depend."""


@dataclass(frozen=True)
class Input:
    """The documents that a corpus is made from, and their provenance.

    `settings`: what the recipe says of them; `versions`: what was read, for the manifest;
    `identity`: further values that the cache key depends on; `options`: how the files are read;
    `files`: lists the files, and may write them first (called only by a build); `left_out`: JSON
    lines files of the documents that the source itself left out, for the audit; `task_bytes`: input
    a task instead of the section's `task_mib` (the shards do not depend on it).
    """

    settings: dict[str, Any]
    versions: dict[str, Any]
    options: ReadOptions
    files: Callable[[], list[InputFile]]
    identity: list[Any] = field(default_factory=list)
    left_out: tuple[str, ...] = ()
    task_bytes: int | None = None


def text_input(section: CorpusSection, remote: RemoteSection | None = None) -> Input:
    """The files that the section names, in order; RecipeError or DataError where one is absent.

    `remote`: the recipe's `data.remote`, but that the section says whether S3 knows us.
    """
    remote = (remote or RemoteSection()).model_copy(update={"anonymous": section.anonymous})
    options = ReadOptions(
        section.text_key, section.id_key, section.limits, anonymous=section.anonymous, remote=remote
    )
    if section.source == "webdataset":
        text = section.text_key if section.text_key != DEFAULT_TEXT_KEY else None
        tars = tar_input(section.files, text, "corpus.files", remote, train_only=True)
        files = tars.files["train"]
        options = replace(options, text_members=tars.members, excluded=tars.excluded)
        identity = [[TAR_RULES, list(map(str, tars.members)), sorted(tars.excluded)]]
    else:
        files = list_files(section.files, remote.access)
        identity = list[Any]()
    identity += [file.identity for file in files]
    named = [without_secrets(name) for name in section.files]
    return Input(
        settings={"files": named, "packages": []},
        versions={"files": len(files), "bytes": sum(file.bytes for file in files)},
        options=options,
        files=lambda: files,
        identity=identity,
    )


def corpus_settings(section: CorpusSection, tokenizer: str | None, given: Input) -> dict[str, Any]:
    """The settings that a corpus's content depends on, as JSON values.

    `tokenizer`: the fingerprint of the one that the recipe names, or None.
    """
    settings = section.model_dump(mode="json", exclude=NOT_CONTENT) | given.settings
    if section.canaries is None:
        del settings["canaries"]  # corpora without any are what they were before there were some
    settings["vocab"] = section.vocab if tokenizer is None else None
    return {**settings, "tokenizer": tokenizer, "builder_rules": RULES}


def corpus_inputs(given: Input) -> dict[str, Any]:
    """The versions of the sources and of the libraries used, as JSON values."""
    return {**given.versions, "libraries": _library_versions()}


def corpus_key(section: CorpusSection, tokenizer: str | None, given: Input) -> str:
    """24 hexadecimal digits that change with the settings, the versions and every file read."""
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
