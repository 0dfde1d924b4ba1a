"""The raw objects of a set's files, each with its location: JSONL, JSON and Parquet."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.corpus.reading.array import raw_elements
from trainer.corpus.reading.files import PLAINLY, InputFile, kind_of, list_files
from trainer.corpus.reading.jsonl import raw_lines
from trainer.corpus.reading.opening import check_expansion
from trainer.corpus.reading.parquet import open_stored
from trainer.corpus.reading.parquet_batches import batch_rows, open_table, row_batches
from trainer.corpus.reading.quarantine import Oversize, RecordLocation
from trainer.corpus.reading.record import ReadOptions, quick_loads
from trainer.corpus.reading.unicode import unicode_fault
from trainer.errors import DataError
from trainer.parsing import read_json
from trainer.recipe.data import Access, RemoteSection


@dataclass(frozen=True, slots=True)
class Example:
    """One object as it was found, and where."""

    record: dict[str, Any]
    place: RecordLocation


ExampleFilter = Callable[[Mapping[str, Any]], bool]
"""Whether a set's reader uses an example, given as the object that a file would hold."""


def raise_fault(fault: DataError) -> None:
    """Refuse the whole set for one example."""
    raise fault


def read_examples(
    patterns: Sequence[str],
    refuse: Callable[[DataError], None] = raise_fault,
    access: Access = PLAINLY,
    key: str = "data.mixture",
) -> Iterator[Example]:
    """The objects of the files (paths, globs, s3:// or https:// URLs), in the order of their names.

    JSONL and JSON (an array of objects, or objects one after the other), plain, .gz or .zst, and
    Parquet. A record that is no JSON object goes to `refuse`, as a DataError naming file and line
    (or record, or row, from 1); reading goes on where that returns. Raises DataError for files that
    are missing or of another kind, which begins with `key`, the recipe's that holds the patterns,
    and for those that are damaged or cut short.
    """
    options = ReadOptions(
        anonymous=access.anonymous, remote=RemoteSection(private_redirects=access.private_redirects)
    )
    for file in _files(patterns, access, key):
        if kind_of(file.path)[0] == "parquet":
            yield from _rows(file, options, refuse)
            continue
        reader = raw_lines if kind_of(file.path)[0] == "jsonl" else raw_elements
        for raw, place, offset in reader(file, options):
            found = _parse(raw, place, offset, options)
            if isinstance(found, DataError):
                refuse(found)
            else:
                yield Example(found, place)


def _files(patterns: Sequence[str], access: Access, key: str) -> list[InputFile]:
    files = list_files(patterns, access, key)
    for file in files:
        if kind_of(file.path)[0] not in ("jsonl", "json", "parquet"):
            raise DataError(f"{key}: {file.path} holds no examples: give .jsonl, .json or .parquet")
    return files


def _parse(
    raw: bytes | Oversize, place: RecordLocation, offset: int, options: ReadOptions
) -> dict[str, Any] | DataError:
    """The object that the bytes hold, or what is wrong with them."""
    if isinstance(raw, Oversize):
        return DataError(
            f"{place}: {raw.size} bytes, more than {options.limits.record_mib} MiB: split it, or"
            " leave it out"
        )
    try:
        record = quick_loads(raw)
    except ValueError:
        # orjson refuses NaN and lone surrogates, and says less of what is wrong.
        try:
            record = read_json(raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            at = offset + error.start
            return DataError(
                f"{place}: byte 0x{raw[error.start]:02x} at offset {at} is not UTF-8: convert it"
            )
        except (ValueError, RecursionError) as error:
            return DataError(f"{place}: not JSON ({error}): mend the line, or leave it out")
        if fault := unicode_fault(json.dumps(record, ensure_ascii=False)):
            return DataError(f"{place}: {fault.partition(' at ')[0]} is no Unicode text: mend it")
    if not isinstance(record, dict):
        return DataError(f"{place}: not a JSON object but {_kind(record)}: give an object each")
    return record


def _kind(value: Any) -> str:
    kinds = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


def _rows(
    file: InputFile, options: ReadOptions, refuse: Callable[[DataError], None]
) -> Iterator[Example]:
    """The rows of a .parquet file; memory: as `row_batches` says."""
    if file.bytes == 0:
        return
    with open_stored(file, options.access) as stored:
        number, unpacked, shown = 0, 0, file.shown
        for batch in row_batches(open_table(stored), stored):
            unpacked += batch.nbytes
            check_expansion(file, file.bytes, unpacked, options.limits)
            for record in batch_rows(batch):
                number += 1
                place = RecordLocation(shown, "row", number)
                if record is None:
                    refuse(DataError(f"{place}: holds a string that is not UTF-8: convert it"))
                else:
                    yield Example(_without_nulls(record), place)


def _without_nulls(value: Any) -> Any:
    """Without the fields that a column of structs has only because another row has them."""
    if isinstance(value, dict):
        return {name: _without_nulls(held) for name, held in value.items() if held is not None}
    if isinstance(value, list):
        return [_without_nulls(held) for held in value]
    return value
