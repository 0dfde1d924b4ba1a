"""The folder of an unfinished build, CORPUS.partial: opened or continued, and published."""

import json
import logging
import operator
import shutil
from pathlib import Path
from typing import Any

from trainer.data.manifest import MANIFEST_NAME, Manifest, load_manifest
from trainer.errors import DataError
from trainer.files import TEMPORARY_SUFFIX, sync_folder, write_whole

log = logging.getLogger(__name__)

STATE = "build.json"
CARD = "DATA_CARD.md"
BUILDER = "builder_rules"
"""The setting that is the builder's own version."""
SCAFFOLD = (
    "staged",
    "sketches",
    "matches",
    "removed",
    "clean",
    "counts",
    "glimpses",
    "sealed",
    "failed",
    "logs",
    "tasks.json",
    "split.json",
    "jobs.json",
    STATE,
)
"""Files and folders that only the build needs, removed once it is complete."""


def is_taken(out: Path) -> bool:
    """Whether `out` exists and is not an empty folder."""
    return out.exists() and (not out.is_dir() or any(out.iterdir()))


def existing_corpus(out: Path, settings: dict[str, Any], inputs: dict[str, Any]) -> Manifest:
    """The corpus that is already at `out`.

    Raises DataError when it was built with other settings, or when `out` is no corpus. Sources that
    changed since give only a warning, and so does a builder that did: the corpus is whole, and the
    user named it by its path.
    """
    if not out.is_dir() or not (out / MANIFEST_NAME).is_file():
        raise DataError(f"{out} exists and is not a corpus: name another folder as corpus.path")
    manifest = load_manifest(out)
    built_with = manifest.provenance.get("settings")
    if not isinstance(built_with, dict):
        raise DataError(f"{out} does not say how it was built: name another folder as corpus.path")
    earlier = built_with.get(BUILDER) != settings.get(BUILDER)
    same = _same_but_for_new_keys if earlier else operator.eq
    for name, value in {"canaries": None, **settings}.items():
        if name == BUILDER or (earlier and name not in built_with):
            continue
        if not same(built_with.get(name), value):
            raise DataError(
                f"{out} was built with {name} {built_with.get(name)!r}, the recipe says {value!r}:"
                " name another folder as corpus.path, or remove this one to build it anew"
            )
    if earlier:
        log.warning("%s was built by another version of the builder; remove it to renew it", out)
    if manifest.provenance.get("inputs") != inputs:
        log.warning("%s was built from other versions of its sources; remove it to renew it", out)
    return manifest


def _same_but_for_new_keys(before: Any, now: Any) -> bool:
    """Whether settings of an earlier version are these, in all that it knew."""
    if isinstance(before, dict) and isinstance(now, dict):
        return all(
            name in now and _same_but_for_new_keys(value, now[name])
            for name, value in before.items()
        )
    return bool(before == now)


def open_partial(
    out: Path, key: str, settings: dict[str, Any], inputs: dict[str, Any]
) -> tuple[Path, bool]:
    """The folder to build `out` in, and whether it has an unfinished build of this `key`.

    The files of a different build are removed. Raises DataError, touching nothing, for a folder
    that no build made.
    """
    partial = out.with_name(out.name + ".partial")
    if partial.is_dir():
        content = [path for path in partial.iterdir() if path.suffix != TEMPORARY_SUFFIX]
        if content and _is_this_build(partial, key, settings, inputs):
            return partial, True
        if content and not any((partial / name).is_file() for name in (STATE, MANIFEST_NAME)):
            raise DataError(f"{partial} is not a half-built corpus: remove it to build {out}")
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    write_whole(partial / STATE, json.dumps({"key": key}).encode())
    return partial, False


def is_whole(partial: Path) -> bool:
    """Whether the last stage has ended; the card is the last file written."""
    return (partial / MANIFEST_NAME).is_file() and (partial / CARD).is_file()


def publish(partial: Path, out: Path) -> None:
    """Remove the files that only the build needed and rename `partial` to `out`.

    A build killed in here resumes here, since the manifest is already written.
    """
    for leftover in (
        *partial.rglob(f"*{TEMPORARY_SUFFIX}"),
        *(partial / name for name in SCAFFOLD),
    ):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)
    quarantine = partial / "quarantine"
    if quarantine.is_dir() and not any(quarantine.iterdir()):
        quarantine.rmdir()
    if out.is_dir():
        out.rmdir()
    partial.rename(out)
    sync_folder(out.parent)


def _is_this_build(
    partial: Path, key: str, settings: dict[str, Any], inputs: dict[str, Any]
) -> bool:
    if (partial / STATE).is_file():
        return bool(json.loads((partial / STATE).read_bytes()) == {"key": key})
    if not (partial / MANIFEST_NAME).is_file():
        return False
    provenance = load_manifest(partial).provenance
    return provenance.get("settings") == settings and provenance.get("inputs") == inputs
