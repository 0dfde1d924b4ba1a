"""Parsing one JSON record into a document, or into the fault for which it is quarantined."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.corpus.reading.quarantine import Oversize, Quarantine, RecordLocation
from trainer.corpus.reading.unicode import BYTE_ORDER_MARK, unicode_fault
from trainer.recipe.curation import Limits
from trainer.recipe.data import Access, RemoteSection
from trainer.recipe.text_member import TextMember

MIB = 2**20

quick_loads: Callable[[bytes], Any]
try:
    from orjson import loads as quick_loads
except ImportError:
    quick_loads = json.loads


@dataclass(frozen=True, slots=True)
class RawDocument:
    """A document as read.

    `id`: the record's own, or its location; `source`: the file, or the record's own; `metadata`
    (JSON values): `url` and `date` of a WARC page, `member` of a tar's sample, otherwise empty;
    `heading`: precedes the text in the corpus, unseen by the rules.
    """

    id: str
    source: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    heading: str = ""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How files are read.

    `text_key`, `id_key`: the fields (Parquet: columns) of text and id; `anonymous`: read S3 without
    credentials; `source_key`, `heading_key`: the fields of a JSON record's source and heading
    (None: it has none); `text_members`: where the text of a WebDataset sample stands, for files
    that are tars (else none); `excluded`: samples of tars, TAR:KEY, that are left out; `remote`:
    how remote tars are fetched.
    """

    text_key: str = "text"
    id_key: str = "id"
    limits: Limits = field(default_factory=Limits)
    anonymous: bool = False
    source_key: str | None = None
    heading_key: str | None = None
    text_members: tuple[TextMember, ...] = ()
    excluded: frozenset[str] = frozenset()
    remote: RemoteSection = field(default_factory=RemoteSection)

    @property
    def access(self) -> Access:
        """How remote files are asked for."""
        return Access(self.anonymous, self.remote.private_redirects)

    @property
    def record_bytes(self) -> int:
        """The size limit of a record, in bytes."""
        return self.limits.record_mib * MIB


def read_record(
    raw: bytes | Oversize,
    location: RecordLocation,
    offset: int,
    options: ReadOptions,
    quarantine: Quarantine,
) -> RawDocument | None:
    """The document in the bytes of a JSON object; None where it is quarantined.

    `offset`: where the bytes begin in the decompressed file. orjson, three times as fast as json,
    parses strictly valid records (UTF-8, no NaN, no lone surrogates). What it refuses goes to json,
    which says what is wrong and where, and accepts NaN and surrogates in unused fields: a score of
    NaN is no reason to lose a text. Results are therefore the same without orjson. Of two fields
    with one name both take the last; a record with two texts is quarantined.
    """
    if isinstance(raw, Oversize):
        set_aside_oversize(raw, location, options, quarantine)
        return None
    quarantine.tally.records += 1
    try:
        record = quick_loads(raw)
        text = record[options.text_key]
        if type(text) is not str or raw.count(b'"%b"' % options.text_key.encode()) > 1:
            raise ValueError
        record.get(options.id_key)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        found = _judge(raw, offset, options)
        if isinstance(found, _Fault):
            quarantine.set_aside(location, found.reason, raw, found.detail)
            return None
        record, text = found, found[options.text_key]
    return RawDocument(
        document_id(record.get(options.id_key), location),
        _named(record, options.source_key) or location.file,
        text,
        heading=_named(record, options.heading_key),
    )


def _named(record: Mapping[str, Any], key: str | None) -> str:
    """The field `key` if it is a valid Unicode string, otherwise the empty string."""
    value = record.get(key) if key is not None else None
    return value if type(value) is str and unicode_fault(value) is None else ""


def document_id(name: Any, location: RecordLocation) -> str:
    """A record's own id if it is a string or an integer, else its location, "PATH:NUMBER"."""
    if type(name) is int:
        return str(name)
    if type(name) is str and name and unicode_fault(name) is None:
        return name
    return location.file if location.unit == "file" else f"{location.file}:{location.number}"


def set_aside_oversize(
    raw: Oversize, location: RecordLocation, options: ReadOptions, quarantine: Quarantine
) -> None:
    """Count and quarantine a record that is larger than the limit."""
    quarantine.tally.records += 1
    detail = f"{raw.size} bytes, more than corpus.limits.record_mib {options.limits.record_mib}"
    quarantine.set_aside(location, "too large", raw, detail)


@dataclass(frozen=True, slots=True)
class _Fault:
    reason: str
    detail: str


class _TwoTexts(ValueError):
    pass


def _judge(raw: bytes, offset: int, options: ReadOptions) -> "_Fault | _Fields":
    """The record that orjson refused, if json accepts it with a text; otherwise its fault."""
    if raw.startswith(BYTE_ORDER_MARK):  # files that were put together each began with one
        raw, offset = raw[len(BYTE_ORDER_MARK) :], offset + len(BYTE_ORDER_MARK)
    try:
        decoded = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        at = offset + error.start
        return _Fault("not UTF-8", f"byte 0x{raw[error.start]:02x} at offset {at} is not UTF-8")
    try:
        record = json.loads(decoded, object_pairs_hook=lambda pairs: _Fields(pairs))
    except (ValueError, RecursionError) as error:
        return _Fault("not JSON", f"not JSON: {error}")
    if not isinstance(record, _Fields):
        return _Fault("no text", "not an object")
    if record.names.count(options.text_key) > 1:
        return _Fault("no text", f'"{options.text_key}" stands there twice')
    text = record.get(options.text_key)
    if not isinstance(text, str):
        there = ", ".join(list(record)[:8]) or "none"
        what = "is no string" if options.text_key in record else "is missing"
        return _Fault(
            "no text", f'"{options.text_key}" {what}; fields: {there} (see corpus.text_key)'
        )
    if fault := unicode_fault(text):
        return _Fault("not Unicode", fault)
    return record


class _Fields(dict[str, Any]):
    """A JSON object, with the `names` of its fields including repeated ones."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.names = [name for name, _ in pairs]
