"""A model in one GGUF file, or in the several that one was split into."""

import json
import re
from functools import cached_property
from pathlib import Path

from torch import Tensor

from trainer.data.tokenizer import Tokenizer
from trainer.errors import CheckpointError
from trainer.gguf.card import card_of
from trainer.gguf.config import config_keys, say_what_is_unread
from trainer.gguf.header import MAGIC, GgufTensor, Header, read_header
from trainer.gguf.metadata import Metadata
from trainer.gguf.names import DERIVED, ROPE_FACTORS, ROPE_FREQUENCIES
from trainer.gguf.tensors import GgufTensors, stored_values
from trainer.gguf.vocabulary import read_tokenizer
from trainer.hub.foreign import names_gguf
from trainer.hugging_face.config import FILE, ModelDescription, describe
from trainer.hugging_face.names import tensor_map

_PART = re.compile(
    r"(?P<stem>.*)-(?P<number>\d{5})(?P<of>-of-)(?P<count>\d{5})(?P<end>\.gguf)", re.IGNORECASE
)


def gguf_file(path: Path) -> Path | None:
    """The GGUF file that a path means: itself, or the only one in a folder of no other model.

    None where it means none. Raises CheckpointError for a folder with several.
    """
    if path.is_dir():
        if (path / FILE).is_file() or (path / "checkpoints").is_dir():
            return None
        found = [one for one in sorted(path.glob("*")) if names_gguf(one) and _is_first(one)]
        if len(found) > 1:
            more = ", ..." * (len(found) > 8)
            raise CheckpointError(
                f"{path}: holds {len(found)} GGUF files; name one of them:"
                f" {', '.join(one.name for one in found[:8])}{more}"
            )
        return found[0] if found else None
    return path if names_gguf(path) or _begins_as_one(path) else None


def _is_first(path: Path) -> bool:
    part = _PART.fullmatch(path.name)
    return part is None or int(part["number"]) == 1


def _begins_as_one(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


class GgufModel:
    """A model in GGUF files, opened: what `import` needs of it.

    Raises CheckpointError where a file is missing, damaged, or of a model that is not computed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        header, self._tensors = _read_parts(path)
        self._metadata = Metadata(header.metadata, path)
        shapes = {name: tensor.shape for name, tensor in self._tensors.items()}
        keys = config_keys(self._metadata, shapes, self._factors)
        self.config: bytes = (json.dumps(keys, indent=2) + "\n").encode()
        self.described: ModelDescription = describe(self.config, str(path))

    def tensors(self) -> GgufTensors:
        """Its weights, by Hugging Face's names."""
        derived = {ROPE_FREQUENCIES, *ROPE_FACTORS.values()}
        held = {
            name: tensor
            for name, tensor in self._tensors.items()
            if name not in derived and not DERIVED.fullmatch(name)
        }
        model = self.described.model
        expected = {part.name: part.shape for one in tensor_map(model) for part in one.parts}
        return GgufTensors(self.path, held, self._metadata.architecture, model, expected)

    @property
    def notices(self) -> dict[str, bytes]:
        """The small files that say whose model it is, by name."""
        return card_of(self._metadata)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer; then says which metadata nobody has read."""
        tokenizer = read_tokenizer(self._metadata)
        say_what_is_unread(self._metadata)
        return tokenizer

    def _factors(self, name: str) -> Tensor | None:
        stored = self._tensors.get(name)
        return None if stored is None else stored_values(stored).float().reshape(-1)


def parts_of(path: Path) -> list[Path]:
    """The files that a model was split into, by the name of the first; or the one that it is in.

    Raises CheckpointError where one is missing.
    """
    part = _PART.fullmatch(path.name)
    if part is None or int(part["number"]) != 1:
        return [path]
    count = int(part["count"])
    parts = [
        path.with_name(f"{part['stem']}-{number:05d}{part['of']}{count:05d}{part['end']}")
        for number in range(1, count + 1)
    ]
    for other in parts:
        if not other.is_file():
            raise CheckpointError(f"{other} is missing, of {count} files; fetch it")
    return parts


def _read_parts(path: Path) -> tuple[Header, dict[str, GgufTensor]]:
    """The first file's header, and the tensors of all of them."""
    first = read_header(path)
    count = first.metadata.get("split.count") or 1
    if type(count) is not int:
        raise CheckpointError(
            f"{path}: split.count is {count!r}, and one whole number is read; fetch the file again"
        )
    part = _PART.fullmatch(path.name)
    if count == 1:
        return first, first.tensors
    if part is None or int(part["count"]) != count:
        raise CheckpointError(
            f"{path}: is one of {count} files, and its name is not NAME-00001-of-{count:05d}.gguf;"
            " give the files their names back"
        )
    if int(part["number"]) != 1:
        raise CheckpointError(
            f"{path}: is number {int(part['number'])} of {count} files; name the first,"
            f" {part['stem']}-00001{part['of']}{count:05d}{part['end']}"
        )
    tensors = dict(first.tensors)
    for other in parts_of(path)[1:]:
        tensors |= read_header(other).tensors
    expected = first.metadata.get("split.tensors.count")
    if expected is not None and expected != len(tensors):
        raise CheckpointError(
            f"{path}: its {count} files hold {len(tensors)} tensors, and {expected} were split;"
            " they belong to different models: fetch them again"
        )
    return first, tensors
