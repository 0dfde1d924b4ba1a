"""Documents between two stages of a build: JSON lines on disk, a file a task, read by position."""

import json
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from trainer.files import WholeFile, whole_file


class Staged(NamedTuple):
    """A document on its way. What it is called (`heading`) stands before its text in the corpus,
    but no rule judges it, and duplicates are told by the text alone.
    """

    id: str
    source: str
    heading: str
    text: str
    group: str

    @property
    def whole(self) -> str:
        """What goes into the corpus."""
        return self.heading + self.text

    def line(self) -> bytes:
        """As a line of JSON."""
        return json.dumps(self, ensure_ascii=False).encode() + b"\n"


class LineWriter:
    """Lines into a file that has its name only once it is whole; `offsets` has where each begins
    and the end of the last.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._whole = WholeFile(path)
        self.offsets = array("q", [0])

    def write(self, line: bytes) -> None:
        """Append a line."""
        self._whole.file.write(line)
        self.offsets.append(self.offsets[-1] + len(line))

    def close(self) -> None:
        """Put it on disk, under its name, with the offsets beside it."""
        save_array(offsets_path(self._whole.path), np.frombuffer(self.offsets, dtype=np.int64))
        self._whole.commit()


def save_array(path: Path, array: np.ndarray) -> None:
    """An array into a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        np.save(file, array, allow_pickle=False)


@contextmanager
def growing_array(path: Path, dtype: str, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """A file to write an array of this type and shape into piece by piece, in order.

    load_array reads it; it appears whole or not at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        about = {"descr": dtype, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, about)
        yield file


def load_array(path: Path, mapped: bool = False) -> np.ndarray:
    """What save_array wrote; `mapped` leaves it on disk."""
    array: np.ndarray = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    return array


def offsets_path(path: Path) -> Path:
    """Where the offsets of a file of lines lie."""
    return path.with_suffix(".offsets.npy")


def read_staged(path: Path) -> Iterator[Staged]:
    """The documents of a file in order."""
    with path.open("rb") as file:
        for line in file:
            yield parse(line)


def staged_at(path: Path, numbers: list[int]) -> dict[int, Staged]:
    """The documents of these numbers in a file."""
    offsets = load_array(offsets_path(path), mapped=True)
    found = {}
    with path.open("rb") as file:
        for number in numbers:
            file.seek(int(offsets[number]))
            found[number] = parse(file.readline())
    return found


def parse(line: bytes) -> Staged:
    """A document from its line."""
    fields: list[Any] = json.loads(line)
    return Staged(*fields)
