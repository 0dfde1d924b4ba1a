"""Reading the texts of evaluation sets from JSONL, JSON, Parquet or plain text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.corpus.reading.files import InputFile
from trainer.corpus.reading.parquet import open_stored
from trainer.corpus.reading.parquet_batches import batch_rows, open_table, row_batches
from trainer.errors import DataError, RecipeError
from trainer.parsing import read_json
from trainer.recipe.curation import EvaluationSet
from trainer.recipe.data import Access

SUFFIXES = (".jsonl", ".json", ".parquet", ".txt")


def read_examples(wanted: EvaluationSet) -> Iterator[list[str]]:
    """The texts of each example: the strings under its `keys`, or all strings, however nested.

    Dots in a key lead into objects (question.stem). Raises RecipeError for a file that cannot be
    read or a key that no example has, DataError for a damaged or empty file.
    """
    where = f"corpus.rules.decontaminate.sets: {wanted.name}"
    path = Path(wanted.file).expanduser()
    if path.suffix not in SUFFIXES:
        raise RecipeError(
            f"{where}: {path} is not one of {', '.join(SUFFIXES)}; convert it or rename it"
        )
    examples, met, seen = 0, set[str](), dict[str, None]()
    try:
        for record in _READERS[path.suffix](path):
            examples += 1
            if not wanted.keys:
                yield list(_strings(record))
                continue
            found = {key: _at(record, key.split(".")) for key in wanted.keys}
            met.update(key for key, values in found.items() if values)
            seen.update(dict.fromkeys(record if isinstance(record, dict) else ()))
            yield [text for values in found.values() for text in _strings(values)]
    except OSError as error:
        raise RecipeError(
            f"{where}: cannot read {path}: {error.strerror or error}; mend the path"
        ) from None
    if not examples:
        raise DataError(f"{where}: {path} holds no example; give the file that does")
    missing = [key for key in wanted.keys if key not in met]
    if missing:
        raise RecipeError(
            f"{where}: no example of {path} has the key {missing[0]!r}; it has"
            f" {', '.join(map(repr, seen)) or 'no keys at all'}"
        )


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)


def _at(value: Any, path: list[str]) -> list[Any]:
    """All values at a path of keys, which passes through every element of lists."""
    if isinstance(value, list):
        return [found for part in value for found in _at(part, path)]
    if not path:
        return [value]
    if isinstance(value, dict) and path[0] in value:
        return _at(value[path[0]], path[1:])
    return []


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise DataError(
                    f"{path} line {number} is not UTF-8; convert the file to UTF-8"
                ) from None
            if text.strip():
                yield number, text


def _text(path: Path) -> Iterator[Any]:
    for _, line in _lines(path):
        yield line


def _jsonl(path: Path) -> Iterator[Any]:
    for number, line in _lines(path):
        try:
            record = read_json(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} line {number} is not JSON: {error}; mend it") from None
        yield record


def _json(path: Path) -> Iterator[Any]:
    try:
        content = read_json(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}; mend it") from None
    if isinstance(content, dict):
        # An object around the list of examples, as in {"version": 1, "data": [...]}.
        lists = [value for value in content.values() if isinstance(value, list)]
        content = lists[0] if len(lists) == 1 else [content]
    yield from content if isinstance(content, list) else [content]


def _parquet(path: Path) -> Iterator[Any]:
    # An absent file is the recipe's mistake, said as those of other formats.
    size = path.stat().st_size
    with open_stored(InputFile(str(path), size, ""), Access()) as stored:
        number = 0
        for batch in row_batches(open_table(stored), stored):
            for record in batch_rows(batch):
                number += 1
                if record is None:
                    raise DataError(
                        f"{path} row {number} holds a string that is not UTF-8; convert it"
                    )
                yield record


_READERS = {".jsonl": _jsonl, ".json": _json, ".parquet": _parquet, ".txt": _text}
