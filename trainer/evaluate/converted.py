"""Reading models of other programs: each is converted once, and found in the user's cache again."""

import hashlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from trainer.checkpoint import folder_name
from trainer.errors import CheckpointError, RecipeError
from trainer.files import build_lock, cache_folder
from trainer.hub.foreign import is_ours, names_gguf
from trainer.hub.names import is_address
from trainer.parallel.join import as_one_process

_log = logging.getLogger(__name__)

_CONVERSION = 1
"""Raised where a conversion makes something else of the same files, so that no old one is found."""
_WEIGHTS = (".safetensors", ".gguf")
_SMALL = (".json", ".jinja", ".model", ".txt")


def readable_checkpoint(path: Path) -> Path:
    """What to read instead of `path`: a checkpoint of the same model where it is of another
    program's form, otherwise `path` itself.

    Those forms are a Hugging Face model folder, a GGUF file or a folder with one, and a model of
    the hub by its address hf://org/name. What `lyceum import` makes of them is kept in the cache,
    by their content. Every rank may ask at once: one converts, the others wait. Raises what
    `import_command` raises, and RecipeError where the cache cannot be written.
    """
    source = _foreign(path)
    if source is None:
        return path
    run = cache_folder("models") / f"{source.stem or 'model'}-{_content(source)[:16]}"
    done = run / "checkpoints" / folder_name(0)
    try:
        with build_lock(run):
            if not done.is_dir():
                _convert(source, run)
    except OSError as error:
        raise RecipeError(
            f"{run} cannot be written: {error.strerror}; name another cache by LYCEUM_CACHE"
        ) from None
    return done


def _foreign(path: Path) -> Path | None:
    """The folder or file of another program's model that a path means; None: it means none."""
    if is_address(str(path)):
        from trainer.hub.models import model_folder

        return model_folder(path)
    if is_ours(path):
        return None
    if (path / "config.json").is_file():
        return path
    if not path.exists() and not names_gguf(path):
        return None
    from trainer.gguf.model import gguf_file

    return gguf_file(path)


def _convert(source: Path, run: Path) -> None:
    from trainer.hugging_face.importing import import_command

    _log.info("%s: is converted once, into %s", source, run)
    shutil.rmtree(
        run.with_name(f"{run.name}.partial"), ignore_errors=True
    )  # of one that was killed
    with as_one_process():
        import_command(source, run, show=False)


def _content(source: Path) -> str:
    """A hash over all that a conversion reads, whatever it is called."""
    digest = hashlib.sha256(f"conversion {_CONVERSION}".encode())
    for file in _files(source):
        try:
            with file.open("rb") as opened:
                own = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(
                f"{file} cannot be read: {error.strerror}; name another"
            ) from None
        name = file.relative_to(source) if source.is_dir() else file.suffix.lower()
        digest.update(f"\n{name} {own}".encode())
    return digest.hexdigest()


def _files(source: Path) -> Iterator[Path]:
    if source.is_dir():
        inside = (*source.glob("*"), *source.glob("additional_chat_templates/*"))
        yield from sorted(
            file for file in inside if file.is_file() and file.suffix.lower() in _WEIGHTS + _SMALL
        )
        return
    from trainer.gguf.model import parts_of

    yield from parts_of(source)
