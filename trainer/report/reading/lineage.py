"""Where a model comes from: the runs, merges and models before it, the oldest first."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trainer.checkpoint.format import AVERAGE, FOLDER_NAME, MANIFEST
from trainer.errors import LyceumError
from trainer.report.reading.run_record import RunRecord, is_run, read_run

LinkKind = Literal["run", "merge", "model", "gone"]
_CARD = "README.md"
_LICENCE = re.compile(r"^license:\s*[\"']?([\w.+ -]{1,60}?)[\"']?\s*$", re.MULTILINE)
_DIGEST = re.compile(r"-[0-9a-f]{16,}$")


@dataclass(frozen=True)
class ChainOrigin:
    """What a link of the chain was made of: another one, by its folder, and which state of it."""

    folder: Path
    step: int | None
    weight: float | None = None
    averaged: bool = False


@dataclass(frozen=True)
class ChainLink:
    """A model's maker: a run, a merge, a model that came from elsewhere, or a path that is gone.

    `record`: of runs and merges; `licence`: of a model, as its card says; `origins`: what it was
    made of, as far as the chain knows.
    """

    kind: LinkKind
    folder: Path
    label: str
    record: RunRecord | None = None
    licence: str | None = None
    origins: tuple[ChainOrigin, ...] = field(default=())


def chain_of(last: RunRecord) -> list[ChainLink]:
    """The chain that ends in this run: each ancestor once, before what is made of it."""
    found: dict[Path, ChainLink] = {}
    _follow(last, found)
    return list(found.values())


def _follow(record: RunRecord, found: dict[Path, ChainLink], depth: int = 0) -> None:
    origins = []
    # Set before its ancestors are: a run that began from its own checkpoint ends the search.
    entered = {record.folder} | found.keys()
    for path, weight in _made_of(record):
        folder, step, averaged = _maker(path)
        origins.append(ChainOrigin(folder, step, weight, averaged))
        if folder not in entered and folder not in found and depth < 64:
            _add(folder, path, found, depth + 1)
    kind: LinkKind = "merge" if record.merge else "run"
    found[record.folder] = ChainLink(
        kind, record.folder, record.label, record, origins=tuple(origins)
    )


def _add(folder: Path, path: Path, found: dict[Path, ChainLink], depth: int) -> None:
    try:
        record = read_run(folder, needs_steps=False)
    except LyceumError:
        found[folder] = _model(folder, path)
        return
    found[folder] = ChainLink("gone", folder, folder.name)  # a circle of runs ends here
    _follow(record, found, depth)
    found[folder] = found.pop(folder)


def _made_of(record: RunRecord) -> list[tuple[Path, float | None]]:
    """The checkpoints whose weights it began with, and the share of each where they were merged."""
    if record.merge is not None:
        return [(Path(one.checkpoint), one.weight) for one in record.merge.parents]
    start = record.keys.get("init_from")
    if not isinstance(start, str) or not start:
        return []
    return [(_beside(record, Path(start)), None)]


def _beside(record: RunRecord, path: Path) -> Path:
    """A checkpoint that a recipe names: a relative one, and one that was moved with the run, by
    its way from the run's folder as the recipe has that.
    """
    was = record.keys.get("run")
    if isinstance(was, str) and os.path.isabs(was) == path.is_absolute():
        beside = Path(os.path.normpath(record.folder / os.path.relpath(path, was)))
        if beside.exists() or not path.is_absolute():
            return beside
    return path


def _maker(path: Path) -> tuple[Path, int | None, bool]:
    """The folder of the run, merge or model that a checkpoint is of; its step; whether averaged."""
    match = FOLDER_NAME.fullmatch(path.name)
    folder = path.parent.parent if match and path.parent.name == "checkpoints" else path
    averaged = folder.name == AVERAGE and is_run(folder.parent)
    return folder.parent if averaged else folder, int(match[1]) if match else None, averaged


def _model(folder: Path, path: Path) -> ChainLink:
    """A model that no run of ours made, or one of which nothing is left."""
    name = _DIGEST.sub("", folder.name) or str(folder)
    there = (path / MANIFEST).is_file() or (path / "config.json").is_file() or path.is_file()
    if not there:
        return ChainLink("gone", folder, name)
    cards = [place / _CARD for place in (path / "hugging_face", path, folder)]
    return ChainLink("model", folder, name, licence=next(filter(None, map(_licence, cards)), None))


def _licence(card: Path) -> str | None:
    """The licence in the head of a model card."""
    try:
        with card.open(encoding="utf-8", errors="replace") as file:
            match = _LICENCE.search(file.read(1 << 14))
    except OSError:
        return None
    return match[1] if match else None
