"""A GGUF file's metadata, asked for by key, kind by kind."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainer.errors import CheckpointError

ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Values of general.architecture that are read; Mistral's files say llama."""


class Metadata:
    """The metadata of the file `path`; `{arch}` in a key is its architecture.

    Raises CheckpointError for an architecture that is not read, and for a value of another kind
    than it is asked for, or none where one is needed. What was asked for is known by `unread`.
    """

    def __init__(self, found: Mapping[str, Any], path: Path) -> None:
        self.path = path
        self._found = found
        self._asked: set[str] = set()
        kind = self.text("general.type") or "model"
        if kind != "model":
            raise CheckpointError(
                f"{path}: general.type is {kind!r}, and models are read; merge an adapter into its"
                " base first"
            )
        named = self.text("general.architecture")
        if named not in ARCHITECTURES:
            raise CheckpointError(
                f"{path}: general.architecture is {named!r}, and {', '.join(ARCHITECTURES)} are"
                " read (Mistral's files say llama); choose another model"
            )
        self.architecture = str(named)

    def value(self, key: str) -> Any:
        """The value of a key; None where there is none."""
        key = key.format(arch=getattr(self, "architecture", ""))
        self._asked.add(key)
        return self._found.get(key)

    def text(self, key: str) -> str | None:
        """A text."""
        return self._of(key, str, "a text")

    def flag(self, key: str) -> bool | None:
        """A truth value."""
        return self._of(key, bool, "true or false")

    def whole(self, key: str) -> int | None:
        """A whole number from 0; of a list of one for each layer, the one that all are."""
        found = self.value(key)
        if isinstance(found, list) and found and len(set(found)) == 1:
            found = found[0]
        if found is None:
            return None
        if type(found) is not int or found < 0:
            shown = f"a list of {len(found)}" if isinstance(found, list) else repr(found)
            raise self._wrong(key, shown, "one whole number")
        return found

    def number(self, key: str) -> float | None:
        """A finite number; of fp32, the one with the fewest digits that rounds to it."""
        found = self.value(key)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise self._wrong(key, repr(found), "a number")
        if not abs(found) <= np.finfo(np.float32).max:
            raise self._wrong(key, repr(found), "a finite number in fp32")
        return float(str(np.float32(found)))

    def texts(self, key: str) -> list[str] | None:
        """A list of texts."""
        return self._list(key, str, "a list of texts")

    def wholes(self, key: str) -> list[int] | None:
        """A list of whole numbers, or of truth values."""
        return self._list(key, int, "a list of whole numbers")

    def numbers(self, key: str) -> list[float] | None:
        """A list of numbers."""
        return self._list(key, int | float, "a list of numbers")

    def needed(self, key: str) -> int:
        """A whole number that every model has."""
        found = self.whole(key)
        if found is None:
            shown = key.format(arch=self.architecture)
            raise CheckpointError(f"{self.path}: has no {shown}; fetch the file again")
        return found

    def unread(self, *prefixes: str) -> list[str]:
        """The keys with these prefixes that nobody has asked for."""
        return [key for key in self._found if key.startswith(prefixes) and key not in self._asked]

    def _of(self, key: str, kind: type, words: str) -> Any:
        found = self.value(key)
        if found is not None and not isinstance(found, kind):
            raise self._wrong(key, repr(found)[:40], words)
        return found

    def _list(self, key: str, kind: Any, words: str) -> Any:
        found = self.value(key)
        if found is None:
            return None
        if not isinstance(found, list) or not all(isinstance(one, kind) for one in found):
            raise self._wrong(key, repr(found)[:40], words)
        return found

    def _wrong(self, key: str, shown: str, words: str) -> CheckpointError:
        key = key.format(arch=getattr(self, "architecture", ""))
        return CheckpointError(
            f"{self.path}: {key} is {shown}, and {words} is read; choose another model"
        )
