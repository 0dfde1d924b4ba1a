"""The records of the models, kept beside the figures: whoever has them can count again.

An archive for the base and one for each seed: every question with every answer, the same bytes for
the same records.
"""

import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from launch.experiments.truth.chain import BLENDS, RECIPES, STEPS
from launch.experiments.truth.measuring import SUITES
from trainer.errors import DataError
from trainer.files import write_whole

MADE_BY = "made-by.json"
"""Of an archive: how the models were trained and asked."""


def keep(records: Path, names: Sequence[str], archive: Path, made_by: Mapping[str, Any]) -> None:
    """Write the records of these models, folders below `records`, into an archive."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz", preset=6) as tar:
        _add(tar, MADE_BY, json.dumps(made_by, indent=1).encode())
        for name in names:
            for file in sorted((records / name).iterdir()):
                if file.suffix in {".json", ".jsonl"}:  # not what was set aside
                    _add(tar, f"{name}/{file.name}", file.read_bytes())
    archive.parent.mkdir(parents=True, exist_ok=True)
    write_whole(archive, content.getvalue())


@contextmanager
def kept_records(archives: Sequence[Path], made_by: Mapping[str, Any]) -> Iterator[Path]:
    """A folder with the records of these archives, a folder a model in it; gone behind the block.

    Raises DataError for an archive that is not there, cannot be read, or was made otherwise.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        for archive in archives:
            try:
                with tarfile.open(archive, "r:xz") as tar:
                    tar.extractall(folder, filter="data")
                found = json.loads((folder / MADE_BY).read_bytes())
                (folder / MADE_BY).unlink()  # or the next archive could do without
            except (OSError, EOFError, tarfile.TarError, lzma.LZMAError, ValueError) as error:
                why = getattr(error, "strerror", None) or error
                raise DataError(
                    f"{archive}: is no archive of records: {why}; train its seed again"
                ) from None
            if found != json.loads(json.dumps(made_by)):
                other = [name for name, one in made_by.items() if found.get(name) != one]
                raise DataError(
                    f"{archive}: its records were made by other {', '.join(other)} than this"
                    " command asks for: train its seed again, or name the same"
                )
        yield folder


def making(model: str, keys: Sequence[str], limit: int | None) -> dict[str, Any]:
    """How records come about: by which recipes, what of them the command overrides, and of each
    suite its rules and how many items at most; equal for two that may be counted together.
    """
    steps = {step: yaml.safe_load((RECIPES / f"{step}.yaml").read_text("utf-8")) for step in STEPS}
    return {
        "recipes": {
            step: hashlib.sha256(json.dumps(one, sort_keys=True).encode()).hexdigest()
            for step, one in steps.items()
        },
        "model": model,
        "keys": list(keys),
        "limit": limit,
        "blends": [asdict(one) for one in BLENDS],
        "suites": {name: [suite.rules, most] for name, (suite, most) in SUITES.items()},
    }


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
