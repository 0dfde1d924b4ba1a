"""The headers of a WARC record and of an HTTP answer, which have one form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

HEADER_BYTES = 64 * 1024
HEADER_LINES = 500
# Headers that may stand there several times, for one list.
LISTS = ("content-encoding", "transfer-encoding")


@dataclass(frozen=True, slots=True)
class Headers:
    """The headers of a WARC record or HTTP response: first line, and fields by lower-case name
    (of one that is repeated the first, of a list of codings all, joined by commas).
    """

    first: str
    fields: Mapping[str, str]


class BadHeadersError(ValueError):
    """Bytes that are no headers, or have no end."""


def read_headers(stream: BinaryIO) -> Headers:
    """Read headers up to and including the blank line that ends them; raises BadHeadersError."""
    lines: list[str] = []
    while True:
        line = stream.readline(HEADER_BYTES)
        if not line.endswith(b"\n"):
            raise BadHeadersError("its headers have no end")
        if not line.strip():
            break
        lines.append(line.decode("utf-8", "replace").rstrip("\r\n"))
        if len(lines) > HEADER_LINES:
            raise BadHeadersError("its headers have no end")
    if not lines:
        raise BadHeadersError("no headers")
    fields: dict[str, str] = {}
    for field in lines[1:]:
        name, _, value = (part.strip() for part in field.partition(":"))
        name = name.lower()
        if name in fields and name in LISTS:
            fields[name] += f", {value}"
        fields.setdefault(name, value)
    return Headers(lines[0], fields)
