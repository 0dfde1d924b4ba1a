"""The base checkpoint that adapters belong to: recorded when they are saved, found on loading."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoint.files import complete_manifest
from trainer.checkpoint.format import MANIFEST
from trainer.checkpoint.read import CheckpointReader
from trainer.errors import CheckpointError
from trainer.parsing import read_json

ATTACHMENT = "base.json"
"""The attachment in which a checkpoint of adapters records its base."""


@dataclass(frozen=True)
class LoraBase:
    """The checkpoint of full weights that adapters were trained on.

    `seal`: the sha256 of its manifest, which holds the sha256 of all else: equal for copies.
    """

    folder: Path
    seal: str

    @classmethod
    def of(cls, folder: Path) -> "LoraBase":
        """The base in a checkpoint folder; raises CheckpointError where that is not complete."""
        complete_manifest(folder)
        return cls(Path(folder), str(read_json((folder / MANIFEST).read_bytes())["sha256"]))

    def attachment(self, folder: Path) -> dict[str, bytes]:
        """The attachment, by file name, of a checkpoint that will be saved as `folder`.

        It records two paths to the base: an absolute one, and one relative to the checkpoint, which
        stays valid when both are moved together.
        """
        base = self.folder.resolve()
        recorded = {
            "checkpoint": str(base),
            "relative": os.path.relpath(base, Path(folder).resolve()),
            "seal": self.seal,
        }
        return {ATTACHMENT: json.dumps(recorded, indent=2).encode() + b"\n"}


def holds_adapters(reader: CheckpointReader) -> bool:
    """Whether the checkpoint holds adapters without their base."""
    return ATTACHMENT in reader.attachments()


def recorded_seal(reader: CheckpointReader) -> str:
    """The recorded seal of the base of a checkpoint of adapters."""
    return _recorded(reader)[1]


def recorded_path(reader: CheckpointReader) -> Path:
    """The recorded absolute path of the base of a checkpoint of adapters."""
    return _recorded(reader)[0][0]


def find_base(reader: CheckpointReader, also: Path | None = None) -> LoraBase:
    """Find the base of a checkpoint of adapters; `also`: one more folder to look in.

    Raises CheckpointError where it is gone, or only other weights are at those paths.
    """
    paths, seal = _recorded(reader)
    others = []
    for path in (*paths, *([also] if also is not None else [])):
        try:
            base = LoraBase.of(path)
        except CheckpointError:
            continue
        if base.seal == seal:
            return base
        others.append(path)
    if others:
        raise CheckpointError(
            f"checkpoint {reader.folder} holds adapters for a base that was at {paths[0]}, and "
            f"{others[0]} is another one (its seal is not {seal[:12]}...); put that base back"
        )
    raise CheckpointError(
        f"checkpoint {reader.folder} holds adapters for the base {paths[0]}, which is gone or not "
        "complete; put it back there"
    )


def _recorded(reader: CheckpointReader) -> tuple[list[Path], str]:
    content = reader.attachment(ATTACHMENT)
    try:
        recorded = read_json(content)
        paths = [Path(recorded["checkpoint"]), reader.folder / recorded["relative"]]
        return list(_distinct(paths)), str(recorded["seal"])
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        raise CheckpointError(
            f"{reader.folder / ATTACHMENT} is not what was written ({error}); choose another "
            "checkpoint"
        ) from None


def _distinct(paths: list[Path]) -> Iterator[Path]:
    seen = set()
    for path in paths:
        plain = Path(os.path.normpath(path))
        if plain not in seen:
            seen.add(plain)
            yield plain
