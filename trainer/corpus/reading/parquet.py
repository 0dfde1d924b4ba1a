"""Parquet: one document a row; only the columns of text and id are read."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from trainer.corpus.reading.files import InputFile
from trainer.corpus.reading.opening import (
    POINTER_BYTES,
    check_expansion,
    open_raw,
    refuse_pointer,
)
from trainer.corpus.reading.parquet_batches import open_table, row_batches
from trainer.corpus.reading.quarantine import Quarantine, RecordLocation
from trainer.corpus.reading.record import RawDocument, ReadOptions, document_id
from trainer.corpus.reading.remote import scheme_of
from trainer.errors import DataError
from trainer.recipe.data import Access

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetFile

COLUMNS_SHOWN = 500
"""Characters of a message for the columns that a table has."""


def read_parquet(
    file: InputFile, options: ReadOptions, quarantine: Quarantine
) -> Iterator[RawDocument]:
    """The documents of a .parquet file; memory: pages and a batch of about 8 MiB, as
    `row_batches` says.

    A row without text, with text that is not UTF-8 or exceeds the limit, is quarantined under its
    number. Raises DataError where `options.text_key` is no column of strings, for a damaged file,
    and where the texts exceed `limits.expansion`.
    """
    if file.bytes == 0:
        return
    with open_stored(file, options.access) as stored:
        yield from _rows(file, stored, options, quarantine)


@contextmanager
def open_stored(file: InputFile, access: Access) -> Iterator[Any]:
    """The file, seekable, for pyarrow.

    Raises DataError without pyarrow, as `open_raw` does, and for any error of pyarrow's inside the
    block.
    """
    try:
        import pyarrow
    except ImportError:
        raise DataError(f"{file.path}: needs pyarrow: install the extra lyceum[data]") from None
    with ExitStack() as opened:
        stored: Any = opened.enter_context(open_raw(file, access, seekable=True))
        if scheme_of(file.path) is None:
            # Of a file of Python's, pyarrow holds each page as bytes of Python's too.
            stored = opened.enter_context(pyarrow.OSFile(file.path))
            refuse_pointer(file.path, stored.read(POINTER_BYTES))
        try:
            yield stored
        # What pyarrow raises for a bad file: its own errors are subclasses of these four.
        except (OSError, ValueError, RuntimeError, NotImplementedError) as error:
            if "range requests" in str(error) or "Cannot seek" in str(error):
                raise DataError(
                    f"{file.path}: the server cannot give parts of a file, which Parquet needs:"
                    " download it first"
                ) from None
            message = " ".join(str(error).split())[:200]
            if re.search("decrypt", message, re.I):
                raise DataError(
                    f"{file.path}: is encrypted, which is not read ({message}): decrypt it, or"
                    " leave it out"
                ) from None
            raise DataError(
                f"{file.path}: not Parquet, damaged or cut short ({message}): fetch it again, or"
                " leave it out"
            ) from None


def _rows(
    file: InputFile, stored: Any, options: ReadOptions, quarantine: Quarantine
) -> Iterator[RawDocument]:
    table = open_table(stored)
    _check_columns(file.path, table, options)
    columns = [options.text_key]
    if options.id_key in table.schema_arrow.names and options.id_key != options.text_key:
        columns.append(options.id_key)
    number, unpacked, shown = 0, 0, file.shown
    for batch in row_batches(table, stored, columns):
        # By name: a.b is also pyarrow's name of the part b of a column a, which then comes first.
        ids = batch.column(options.id_key).to_pylist() if len(columns) > 1 else None
        texts = batch.column(options.text_key)
        for row, (text, raw) in enumerate(_texts(texts, options.record_bytes)):
            number += 1
            location = RecordLocation(shown, "row", number)
            quarantine.tally.records += 1
            if text is None:
                _set_aside(raw, location, options, quarantine)
                continue
            # Characters, not bytes: to detect a bomb, a factor below four is no matter.
            unpacked += len(text)
            check_expansion(file, file.bytes, unpacked, options.limits)
            yield RawDocument(document_id(ids[row] if ids else None, location), shown, text)


def _check_columns(path: str, table: "ParquetFile", options: ReadOptions) -> None:
    import pyarrow.types as types

    schema = table.schema_arrow
    if schema.names.count(options.text_key) == 1:
        kind = schema.field(options.text_key).type
        if types.is_string(kind):
            return
        wrong = f'column "{options.text_key}" holds {kind}, not strings'
    elif options.text_key in schema.names:
        wrong = f'"{options.text_key}" names several columns'
    else:
        wrong = f'no column "{options.text_key}"'
    names = Counter(schema.names)
    strings = [
        field.name for field in schema if types.is_string(field.type) and names[field.name] == 1
    ]
    there = ", ".join(f"{field.name} ({field.type})" for field in schema)[:COLUMNS_SHOWN]
    mend = (
        f"set corpus.text_key={strings[0]}"
        if strings
        else "give a column of strings (corpus.text_key), or leave the file out"
    )
    raise DataError(f"{path}: {wrong}; columns: {there}: {mend}")


def _texts(
    column: "pyarrow.Array", limit: int
) -> Iterator[tuple[str | None, "pyarrow.Scalar | None"]]:
    """(text, None) of each row, or (None, value) where its value is no usable text."""
    import pyarrow.compute as compute

    if (compute.max(compute.binary_length(column)).as_py() or 0) <= limit:
        try:
            yield from ((text, None) for text in column.to_pylist())
            return
        except UnicodeDecodeError:
            pass
    for value in column:
        if not value.is_valid or value.as_buffer().size > limit:
            yield None, value
            continue
        try:
            text = value.as_py()
        except UnicodeDecodeError:
            text = None
        yield text, value


def _set_aside(
    value: Any, location: RecordLocation, options: ReadOptions, quarantine: Quarantine
) -> None:
    if value is None or not value.is_valid:
        quarantine.set_aside(location, "no text", b"", f'"{options.text_key}" is null')
        return
    raw = value.as_buffer().to_pybytes()
    if len(raw) > options.record_bytes:
        detail = f"{len(raw)} bytes, more than corpus.limits.record_mib {options.limits.record_mib}"
        quarantine.set_aside(location, "too large", raw, detail)
        return
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start
        detail = f"byte 0x{raw[at]:02x} at offset {at} of its text is not UTF-8"
        quarantine.set_aside(location, "not UTF-8", raw, detail)
