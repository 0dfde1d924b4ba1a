"""What a corpus is made from: the settings, the versions of its sources, and the key under which
it is cached.
"""

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from trainer.corpus.reading.files import InputFile, list_files
from trainer.corpus.rules import controls
from trainer.data.packages import SourceFile, package_versions, resolve_packages, source_files
from trainer.errors import RecipeError
from trainer.recipe import CorpusSection

RULES = 3
"""Counted up when the builder makes other shards of the same settings."""

LIBRARIES = ("datatrove", "ftfy", "py3langid", "rensa", "spacy", "tokenizers", "webdataset")
NOT_CONTENT = {"path", "workers", "slurm", "anonymous"}
"""Keys of the section that change nothing in the shards."""


def corpus_settings(section: CorpusSection, tokenizer: str | None) -> dict[str, Any]:
    """What the recipe decides of a corpus's content; `tokenizer` is the fingerprint of a given
    one, or None.
    """
    settings = section.model_dump(mode="json", exclude=NOT_CONTENT)
    settings["files"] = list(section.files) if section.source == "text" else []
    settings["packages"] = list(section.packages) if section.source == "embedded" else []
    settings["vocab"] = section.vocab if tokenizer is None else None
    return {**settings, "tokenizer": tokenizer, "builder_rules": RULES}


def input_files(section: CorpusSection) -> list[SourceFile] | list[InputFile]:
    """The files that the documents are read from, in order.

    Raises RecipeError or DataError when a source is not there.
    """
    if section.source == "embedded":
        return source_files(resolve_packages(section.packages))
    return list_files(section.files, anonymous=section.anonymous)


def corpus_inputs(
    section: CorpusSection, files: list[SourceFile] | list[InputFile]
) -> dict[str, Any]:
    """The versions of the packages read, or the number and size of the files; and of the libraries
    used.
    """
    inputs: dict[str, Any] = {"libraries": _library_versions()}
    if section.source == "embedded":
        return {"packages": package_versions(resolve_packages(section.packages)), **inputs}
    return {"files": len(files), "bytes": sum(file.bytes for file in files), **inputs}


def corpus_key(
    section: CorpusSection,
    tokenizer: str | None,
    files: list[SourceFile] | list[InputFile] | None = None,
) -> str:
    """One key for one content: it changes with the settings, the versions, and any file read.

    `files` is what input_files returns, where that is known already.
    """
    files = input_files(section) if files is None else files
    parts: list[Any] = [corpus_settings(section, tokenizer), corpus_inputs(section, files)]
    parts += [[file.path, file.bytes, file.version] for file in files if type(file) is InputFile]
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
    for key, control in controls().items() if section.rules is not None else ():
        settings = getattr(section.rules, key)
        found += control.files(settings) if settings is not None else []
    return found


def _version(path: str) -> list[Any]:
    try:
        status = Path(path).expanduser().stat()
    except OSError:
        return [path, None]  # The rule that reads it says what is wrong.
    return [path, status.st_size, status.st_mtime_ns]
