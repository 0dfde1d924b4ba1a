"""The records of a suite's items: a line of JSON each, added as they come, gone on with later."""

import json
import logging
import os
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from trainer.errors import RecipeError
from trainer.evaluate.suites.suite import ItemRecord
from trainer.files import write_whole

_log = logging.getLogger(__name__)

_KEYS = {
    "own": "corpus",
    "rules": "version of the suite",
    "asked": "set of questions",
    "options": "set of questions or way of asking",
}
"""What a user calls settings of which a record file says what it is of."""

_STRANGE = "answer what is not asked now, and are not gone on with"
_CHANGED = "are not what was written there: these items are asked anew"

FAILED = "failed"
"""The key of a record that says why the item has no answer."""
NAME_ANOTHER = "name another folder (--records)"
"""The mend that the command offers where records cannot be written."""


class RecordFile:
    """SUITE.jsonl in `folder`, and SUITE.settings.json, which says what its records are of.

    A context manager. `done`: the records that were there, by the item's id; those of another
    model, or of other settings, are renamed with their settings (`.replaced`, `.replaced-2`, ...),
    which is said, and not gone on with. Nor are those whose ids are not `asked`, or that are not
    `sound`: they are counted, and the file as it was is set aside likewise.
    Raises RecipeError where the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        suite: str,
        settings: Mapping[str, Any],
        asked: Container[str],
        sound: Callable[[ItemRecord], bool],
    ) -> None:
        name = file_name(suite)
        self.path = folder / f"{name}.jsonl"
        self.done: dict[str, ItemRecord] = {}
        described = folder / f"{name}.settings.json"
        wanted = json.loads(json.dumps(dict(settings)))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                self._read(described, wanted, asked, sound)
            write_whole(described, json.dumps(wanted, indent=2) + "\n", durable=False)
            self._file: TextIO = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise RecipeError(
                f"{self.path}: cannot be written: {error.strerror}; {NAME_ANOTHER}"
            ) from None

    def add(self, record: ItemRecord) -> None:
        """Append a record; raises OSError (disk full)."""
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()

    def __enter__(self) -> "RecordFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What is left to write was refused before, by `add`: that error is the one to raise.
        with suppress(OSError):
            self._file.close()

    def _read(
        self,
        described: Path,
        wanted: dict[str, Any],
        asked: Container[str],
        sound: Callable[[ItemRecord], bool],
    ) -> None:
        known = None
        if described.exists():
            known = _json(described.read_text(encoding="utf-8", errors="replace"))
        if known != wanted:
            aside = _set_aside(self.path, described)
            _log.warning(
                "%s: its records are of %s, and not gone on with; they are now %s",
                *(self.path, difference(known, wanted), aside),
            )
            return
        # Texts may hold other letters at which splitlines would cut.
        text = self.path.read_text(encoding="utf-8", errors="replace")
        *lines, torn = text.split("\n")
        records = [_json(line) for line in lines]
        # A failed item is tried once more; a killed process may have left half a line.
        answers = [one for one in records if not (isinstance(one, dict) and FAILED in one)]
        whole = [one for one in answers if _is_record(one)]
        current = [one for one in whole if one["id"] in asked]
        sound_ones = [one for one in current if sound(one)]
        strange = len(whole) - len(current)
        changed = len(answers) - strange - len(sound_ones)
        faults = [
            f"{number} of its {len(lines)} lines {fault}"
            for number, fault in ((strange, _STRANGE), (changed, _CHANGED))
            if number
        ]
        if faults:
            aside = _set_aside(self.path, described)
            _log.warning(
                "%s: %s; the file as it was is now %s", self.path, " and ".join(faults), aside
            )
        self.done = {record["id"]: record for record in sound_ones}
        if torn or len(self.done) < len(lines):
            found = self.done.values()
            text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in found)
            write_whole(self.path, text, durable=False)


def file_name(suite: str) -> str:
    """A suite's name as that of a file, another one for each: a task may be called as one likes."""
    return suite.replace("%", "%25").replace("/", "%2F")


def _is_record(line: Any) -> bool:
    return isinstance(line, dict) and isinstance(line.get("id"), str)


def _set_aside(*files: Path) -> Path:
    """Rename files alike, over no file that is there; returns the first one's new name."""
    numbers = (f".replaced-{number}" if number > 1 else ".replaced" for number in count(1))
    ending = next(one for one in numbers if not any(_with_ending(f, one).exists() for f in files))
    for file in files:
        with suppress(FileNotFoundError):
            os.rename(file, _with_ending(file, ending))
    return _with_ending(files[0], ending)


def _with_ending(file: Path, ending: str) -> Path:
    return file.with_name(f"{file.name}{ending}")


def difference(known: Any, wanted: Mapping[str, Any]) -> str:
    """In which settings a stored examination differs from a wanted one, as a user calls them."""
    if not isinstance(known, dict):
        return "nobody knows what"
    differing = [key for key in wanted if known.get(key) != wanted[key]]
    return f"another {', '.join(_KEYS.get(key, key) for key in differing) or 'set of settings'}"


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
