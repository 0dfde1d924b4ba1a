"""Documents between two stages of a build: a JSON lines file a task, with offsets for seeking."""

import json
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from trainer.files import WholeFile, whole_file


class Staged(NamedTuple):
    """A document between stages. `heading` (such as a file's name) precedes its text in the corpus,
    but neither the rules nor the search for duplicates see it; `group`: the name it is counted
    under among the sources.
    """

    id: str
    source: str
    heading: str
    text: str
    group: str

    @property
    def whole(self) -> str:
        """The text that is tokenized: heading and text."""
        return self.heading + self.text

    def line(self) -> bytes:
        """The document as a line of JSON (UTF-8), which `parse` reads."""
        return json.dumps(self, ensure_ascii=False).encode() + b"\n"


class LineWriter:
    """Writes lines to a file that appears under its name only once it is whole.

    `offsets`, int64 [lines + 1]: the byte at which each line begins, and the end of the last.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._whole = WholeFile(path)
        self.offsets = array("q", [0])

    def write(self, line: bytes) -> None:
        """Append a line, which ends in a newline."""
        self._whole.file.write(line)
        self.offsets.append(self.offsets[-1] + len(line))

    def close(self) -> None:
        """Write the offsets to their own file, then give the file its name."""
        save_array(offsets_path(self._whole.path), np.frombuffer(self.offsets, dtype=np.int64))
        self._whole.commit()


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array to a .npy file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        np.save(file, array, allow_pickle=False)


@contextmanager
def growing_array(path: Path, dtype: str, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """A .npy file of this dtype and shape, whose values the caller writes piece by piece, in order.

    It appears whole or not at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        about = {"descr": dtype, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, about)
        yield file


def load_array(path: Path, mapped: bool = False) -> np.ndarray:
    """Read an array that save_array or growing_array wrote; `mapped`: memory-map it."""
    array: np.ndarray = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    return array


def offsets_path(path: Path) -> Path:
    """The file of the offsets of a LineWriter's file."""
    return path.with_suffix(".offsets.npy")


def read_staged(path: Path) -> Iterator[Staged]:
    """The documents of a file, in order."""
    with path.open("rb") as file:
        for line in file:
            yield parse(line)


def staged_at(path: Path, numbers: list[int]) -> dict[int, Staged]:
    """The documents of a file at the given line numbers, by number."""
    offsets = load_array(offsets_path(path), mapped=True)
    found = {}
    with path.open("rb") as file:
        for number in numbers:
            file.seek(int(offsets[number]))
            found[number] = parse(file.readline())
    return found


def parse(line: bytes) -> Staged:
    """The document that `Staged.line` wrote."""
    fields: list[Any] = json.loads(line)
    return Staged(*fields)
