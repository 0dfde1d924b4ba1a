"""The texts of a WebDataset tar: of each sample a member, or the field of one, as recipes say."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from trainer.corpus.reading.files import InputFile
from trainer.corpus.reading.quarantine import Oversize, Quarantine, RecordLocation
from trainer.corpus.reading.record import RawDocument, ReadOptions, quick_loads, set_aside_oversize
from trainer.corpus.reading.tar_samples import TarSample, read_samples
from trainer.corpus.reading.unicode import BYTE_ORDER_MARK, unicode_fault
from trainer.parsing import read_json
from trainer.recipe.text_member import GZIP, TextMember

LISTED = 6
"""Extensions that a message names."""
MOST_KINDS = 50
"""Kinds of samples without text that are counted one by one."""


def read_tar(
    file: InputFile, options: ReadOptions, quarantine: Quarantine
) -> Iterator[RawDocument]:
    """The documents of a WebDataset tar: of each sample the first of `options.text_members` that
    it has, which may be gzipped (`txt.gz` for `txt`). Id: TAR:KEY; source: the tar.

    A sample that has none of them is passed over and counted, as links are; one whose text cannot
    be read (not UTF-8, not JSON, no field that is asked for, too large) is quarantined. Raises
    DataError as `read_samples` does.
    """
    wanted = options.text_members
    asked = {name for one in wanted for name in (one.extension, one.extension + GZIP)}
    samples = read_samples(file, options, asked.__contains__, quarantine.tally.passed_over)
    for number, sample in enumerate(samples, start=1):
        name = f"{file.path}:{_printable(sample.key)}"
        if name in options.excluded:
            quarantine.tally.passed_over["excluded"] += 1
            continue
        found = _first_text(sample, wanted, options.record_bytes)
        if found is None:
            _pass_over(sample, wanted, quarantine)
            continue
        location = RecordLocation(file.shown, "record", number)
        if isinstance(found, Oversize):
            set_aside_oversize(found, location, options, quarantine)
            continue
        quarantine.tally.records += 1
        if isinstance(found, _Fault):
            detail = f"sample {_printable(sample.key)}: {found.detail}"
            quarantine.set_aside(location, found.reason, found.content, detail)
            continue
        member, text = found
        key = _printable(sample.key)
        yield RawDocument(f"{file.shown}:{key}", file.shown, text, {"member": str(member)})


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why the bytes `content` of a member give no text; `absent`: they lack the field asked for."""

    reason: str
    detail: str
    content: bytes = b""
    absent: bool = False


def _first_text(
    sample: TarSample, wanted: tuple[TextMember, ...], limit: int
) -> tuple[TextMember, str] | _Fault | Oversize | None:
    """The text of the first wanted member or field that the sample has, and where it stood; None
    where it has none of the members.

    A field that is absent or null gives way to the next alternative, as in energon's field_map; a
    member that cannot be read does not.
    """
    absent: _Fault | None = None
    values: dict[str, Any] = {}
    for member in wanted:
        for extension in (member.extension, member.extension + GZIP):
            content = sample.members.get(extension)
            if content is None:
                continue
            if isinstance(content, Oversize):
                return content
            named = TextMember(extension, member.fields)
            text = _text(content, named, limit, values)
            if not isinstance(text, _Fault):
                return named, text
            fault = replace(text, content=content)
            if not fault.absent:
                return fault
            absent = absent or fault
    return absent


def _pass_over(sample: TarSample, wanted: tuple[TextMember, ...], quarantine: Quarantine) -> None:
    counts = quarantine.tally.passed_over
    names = sorted(map(_printable, sample.members))
    more = ", ..." if len(names) > LISTED else ""
    missing = " or ".join(dict.fromkeys(one.extension for one in wanted))
    kind = f"without {missing} ({', '.join(names[:LISTED])}{more})"
    if kind not in counts and len(counts) >= MOST_KINDS:
        kind = f"without {missing}"
    counts[kind] += 1


def _text(content: bytes, member: TextMember, limit: int, values: dict[str, Any]) -> str | _Fault:
    """The text in a member's bytes; `values`: of the sample's JSON members read before."""
    if member.extension not in values:
        values[member.extension] = _value(content, member, limit)
    value = values[member.extension]
    return _field(value, member) if member.fields and not isinstance(value, _Fault) else value


def _value(content: bytes, member: TextMember, limit: int) -> Any:
    """What a member holds: a text, or what its JSON says; a _Fault where it cannot be read."""
    if member.extension.endswith(GZIP):
        unpacked = _unzipped(content, limit)
        if isinstance(unpacked, _Fault):
            return unpacked
        content = unpacked
    if not member.fields:
        return _decoded(content)
    try:
        return quick_loads(content)
    except ValueError:
        text = _decoded(content)
        if isinstance(text, _Fault):
            return text
        try:
            return read_json(text)
        except (ValueError, RecursionError) as error:
            return _Fault("not JSON", f"{member.extension} is not JSON: {error}")


def _field(value: Any, member: TextMember) -> str | _Fault:
    for depth, field in enumerate(member.fields, start=1):
        fields = value if isinstance(value, dict) else {}
        if field in fields:
            value = value[field]
        elif isinstance(value, list) and field.isdecimal() and int(field) < len(value):
            value = value[int(field)]
        else:
            there = ", ".join(list(fields)[:LISTED]) or "none"
            name = TextMember(member.extension, member.fields[:depth])
            return _Fault("no text", f"{name} is missing; fields: {there}", absent=True)
    if not isinstance(value, str):
        return _Fault("no text", f"{member} is no string", absent=value is None)
    fault = unicode_fault(value)
    return value if fault is None else _Fault("not Unicode", f"{member}: {fault}")


def _decoded(content: bytes) -> str | _Fault:
    start = len(BYTE_ORDER_MARK) if content.startswith(BYTE_ORDER_MARK) else 0
    try:
        return content[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        at = start + error.start
        return _Fault("not UTF-8", f"byte 0x{content[at]:02x} at offset {at} is not UTF-8")


def _unzipped(content: bytes, limit: int) -> bytes | _Fault:
    """The bytes in all gzip members of `content`, up to `limit`."""
    parts: list[bytes] = []
    size = 0
    try:
        while content:
            stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
            parts.append(stream.decompress(content, limit + 1 - size))
            size += len(parts[-1])
            if size > limit:
                return _Fault("too large", f"unpacks to more than {limit} bytes")
            if not stream.eof:
                return _Fault("damaged", "its gzip is cut short")
            content = stream.unused_data.lstrip(b"\0")
    except zlib.error as error:
        return _Fault("damaged", f"is no gzip ({error})")
    return b"".join(parts)


def _printable(name: str) -> str:
    """A key or extension that UTF-8 can encode: tars name files in bytes of any kind."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
