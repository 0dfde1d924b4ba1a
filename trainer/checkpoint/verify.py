"""Whether a checkpoint's files are what its manifest says: sizes at once, hashes by reading all."""

import hashlib
from pathlib import Path

from trainer.checkpoint.format import MANIFEST, Manifest, StoredFile, read_manifest
from trainer.errors import CheckpointError


def size_fault(folder: Path, name: str, stored: StoredFile) -> str | None:
    """Why a file can't be the one that was saved, judged without reading it; None: it may be."""
    try:
        size = (folder / name).stat().st_size
    except FileNotFoundError:
        return f"{folder / name} is missing"
    except OSError as error:
        return f"{folder / name} cannot be read: {error.strerror}"
    if size != stored.bytes:
        return f"{folder / name} has {size} bytes, {stored.bytes} were saved"
    return None


def hash_fault(folder: Path, name: str, stored: StoredFile) -> str | None:
    """Why a file is not the one that was saved; None: its size and sha256 are right."""
    fault = size_fault(folder, name, stored)
    if fault:
        return fault
    try:
        with open(folder / name, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"{folder / name} cannot be read: {error.strerror}"
    return None if digest == stored.sha256 else f"{folder / name} was altered (its sha256 differs)"


def complete_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint whose files are all there with the right sizes.

    Raises CheckpointError naming the first file that is missing or of another size.
    """
    manifest = read_manifest(folder)
    for name, stored in manifest.files.items():
        fault = size_fault(folder, name, stored)
        if fault:
            raise CheckpointError(f"{fault}; choose another checkpoint")
    return manifest


def verify_checkpoint(folder: Path) -> list[str]:
    """Every fault of a checkpoint, each naming its file; empty: it is what was saved.

    Reads all of it. Files that the manifest does not know are faults too, though never loaded.
    """
    folder = Path(folder)
    try:
        manifest = read_manifest(folder)
    except CheckpointError as error:
        return [str(error)]
    faults = [hash_fault(folder, name, stored) for name, stored in manifest.files.items()]
    known = {MANIFEST, *manifest.files}
    strangers = sorted(
        str(path)
        for path in folder.rglob("*")
        if not path.is_dir() and path.relative_to(folder).as_posix() not in known
    )
    return [fault for fault in faults if fault] + [
        f"{path} does not belong to the checkpoint" for path in strangers
    ]
