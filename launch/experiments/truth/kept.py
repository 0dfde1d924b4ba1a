"""The records of the models, kept beside the figures: whoever has them can count again.

An archive for the base and one for each seed: every question with every answer, the same bytes for
the same records.
"""

import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from launch.experiments.truth.chain import RECIPES, STEPS
from trainer.errors import DataError
from trainer.files import write_whole

MADE_BY = "recipes.json"
"""Of an archive: what the models were trained by."""


def keep(records: Path, names: Sequence[str], archive: Path) -> None:
    """Write the records of these models, folders below `records`, into an archive."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz", preset=6) as tar:
        _add(tar, MADE_BY, json.dumps(_recipes(), indent=1).encode())
        for name in names:
            for file in sorted((records / name).glob("*.json*")):
                _add(tar, f"{name}/{file.name}", file.read_bytes())
    archive.parent.mkdir(parents=True, exist_ok=True)
    write_whole(archive, content.getvalue())


@contextmanager
def kept_records(archives: Sequence[Path]) -> Iterator[Path]:
    """A folder with the records of these archives, a folder a model in it; gone behind the block.

    Raises DataError for an archive that is not there, cannot be read, or is of other recipes.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        for archive in archives:
            try:
                with tarfile.open(archive, "r:xz") as tar:
                    tar.extractall(folder, filter="data")
                made_by = json.loads((folder / MADE_BY).read_bytes())
            except (OSError, EOFError, tarfile.TarError, lzma.LZMAError, ValueError) as error:
                why = getattr(error, "strerror", None) or error
                raise DataError(
                    f"{archive}: is no archive of records: {why}; train its seed again"
                ) from None
            if made_by != _recipes():
                raise DataError(
                    f"{archive}: its models were trained by other recipes than those in {RECIPES}:"
                    " train its seed again"
                )
        yield folder


def _recipes() -> dict[str, str]:
    """What changes with any key of a step's recipe, by step."""
    keys = {step: yaml.safe_load((RECIPES / f"{step}.yaml").read_text("utf-8")) for step in STEPS}
    return {
        step: hashlib.sha256(json.dumps(one, sort_keys=True).encode()).hexdigest()
        for step, one in keys.items()
    }


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
