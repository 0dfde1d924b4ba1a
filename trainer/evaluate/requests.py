"""What `lyceum generate` is asked: the lines of a file, as texts to continue or messages to answer.

A line ends at LF or CRLF and nowhere else; a byte order mark is dropped; blank lines ask nothing.
In a JSON lines file each line is an object: `prompt`, a text that may have line breaks in it, or
`messages` (and `tools`), as in a set of conversations, ending with the turn to be answered. A
`prompt` beside `system`, `tools` or another field that only a template reads is a user's turn, as
in a set.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.conversations.columns import Fields, fields_of
from trainer.conversations.forms import NAMES, beside, framed, with_system
from trainer.conversations.messages import messages_of
from trainer.conversations.records import Example
from trainer.conversations.turns import Conversation, Message
from trainer.corpus.reading.quarantine import RecordLocation
from trainer.corpus.reading.unicode import BYTE_ORDER_MARK, unicode_fault, wide_unicode
from trainer.errors import DataError, RecipeError
from trainer.parsing import read_json

GENERATED, REASON = "generated", "finish_reason"
"""The fields that an answered record has beside its own."""
_LINE_END = re.compile(r"\r?\n")


@dataclass(frozen=True)
class Request:
    """A text to be continued, or a conversation to be answered (`text` None); `place`: where it
    stands.

    `record`: the object of a JSON line, which its answer is added to; `unread`: its keys that say
    nothing here.
    """

    text: str | None
    conversation: Conversation | None = None
    place: RecordLocation | None = None
    record: Mapping[str, Any] | None = None
    unread: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """What an error begins with."""
        return f"{self.place}: " if self.place else ""


def content_of(file: Path) -> bytes:
    """What a file, a pipe or (`-`) standard input holds; RecipeError where it cannot be read."""
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise RecipeError(f"{file}: cannot be read: {error.strerror}") from error


def is_read_once(file: Path) -> bool:
    """Whether what a file holds is gone once it is read, as from a pipe."""
    return str(file) == "-" or (file.exists() and not (file.is_file() or file.is_dir()))


def prompts_in(raw: bytes, file: Path) -> list[Request]:
    """A prompt a line. Raises RecipeError for what is no UTF-8, or holds no prompt."""
    asked = [Request(line, place=place) for place, line in _lines(raw, file)]
    if not asked:
        raise RecipeError(f"{file}: holds no prompt; write one a line")
    return asked


def records_in(raw: bytes, file: Path) -> list[Request]:
    """A JSON object a line. Raises RecipeError as `prompts_in`, DataError naming a bad line."""
    asked = [_request(_object(line, place), place) for place, line in _lines(raw, file)]
    if not asked:
        raise RecipeError(f'{file}: holds no prompt; write {{"prompt": "..."}} a line')
    return asked


def _lines(raw: bytes, file: Path) -> list[tuple[RecordLocation, str]]:
    """The lines that are not blank, without their ends, each with its number in the file."""
    if wide := wide_unicode(raw[:4096]):
        raise RecipeError(f"{file}: is {wide}, not UTF-8: convert it (iconv -f {wide} -t UTF-8)")
    try:
        text = raw.removeprefix(BYTE_ORDER_MARK).decode("utf-8")
    except UnicodeDecodeError as error:
        before = len(raw) - len(raw.removeprefix(BYTE_ORDER_MARK))
        raise RecipeError(f"{file}: not UTF-8 text (byte {before + error.start})") from error
    lines = enumerate(_LINE_END.split(text), start=1)
    return [
        (RecordLocation(str(file), "line", number), line) for number, line in lines if line.strip()
    ]


def _object(line: str, place: RecordLocation) -> dict[str, Any]:
    try:
        record = read_json(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error}): mend the line, or leave it out") from None
    if not isinstance(record, dict):
        raise DataError(f'{place}: not a JSON object: write {{"prompt": "..."}}')
    if fault := unicode_fault(json.dumps(record, ensure_ascii=False)):
        raise DataError(f"{place}: {fault.partition(' at ')[0]} is no Unicode text: mend it")
    return record


def _request(record: dict[str, Any], place: RecordLocation) -> Request:
    for name in (GENERATED, REASON):
        if name in record:
            raise DataError(f'{place}: has "{name}", where the answer goes: name it otherwise')
    fields = NAMES.fields(Example(record, place))
    asked = [name for name in ("prompt", "messages", "conversations") if name in fields]
    if len(asked) != 1:
        found = f"both {' and '.join(asked)}" if asked else fields_of(fields)
        raise DataError(f"{place}: has {found}: give prompt, or messages")
    (field,) = asked
    if field == "prompt" and isinstance(fields[field], str) and not framed(fields):
        return Request(fields[field], place=place, record=record, unread=fields.unread)
    messages = with_system(fields, _messages(fields, field))
    if messages[0].role == "system" and not messages[0].content.strip():
        # An empty system prompt says that the recipe's is not wanted.
        _refuse_unanswerable(messages[1:], place)
    else:
        _refuse_unanswerable(messages, place)
    conversation = beside(fields, tuple(messages))
    return Request(None, conversation, place, record, fields.unread)


def _messages(fields: Fields, field: str) -> list[Message]:
    found = fields[field]
    if field != "prompt" or not isinstance(found, str | list):
        return messages_of(fields, field)
    if isinstance(found, str):
        return [Message("user", found)]
    if found and all(isinstance(text, str) for text in found):
        raise DataError(f"{fields.place}: its prompt is a list of texts: give each its own line")
    return messages_of(fields, field)


def _refuse_unanswerable(messages: Sequence[Message], place: RecordLocation) -> None:
    if not messages or messages[-1].role not in ("user", "tool"):
        whose = messages[-1].role if messages else "system"
        raise DataError(
            f"{place}: ends with the {whose}'s turn, which asks for no answer: end with a user's"
        )
