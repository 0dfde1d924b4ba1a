"""What is set aside: rows, counts, and when there are too many."""

import hashlib
import json
from pathlib import Path

import pytest

from tests.corpus.reading.samples import lines, write
from trainer.corpus.reading.files import list_files
from trainer.corpus.reading.quarantine import ROWS_IN_MEMORY, Quarantine, RecordLocation, Tally
from trainer.corpus.reading.read import read_file
from trainer.corpus.reading.record import ReadOptions
from trainer.errors import DataError


def test_each_record_set_aside_has_a_row(tmp_path: Path) -> None:
    """Would catch a record that cannot be found again by its file, line and hash."""
    bad = b'{"text": ' + b"\xff" * 500
    path = write(tmp_path / "x.jsonl", lines({"text": "a"}, bad))
    part = tmp_path / "deep" / "part-0.jsonl"
    with Quarantine(part) as quarantine:
        list(read_file(list_files([str(path)])[0], ReadOptions(), quarantine))
        assert not part.exists()
    (row,) = [json.loads(line) for line in part.read_bytes().splitlines()]
    assert row == quarantine.rows[0]
    assert row["file"] == str(path) and row["line"] == 2 and row["reason"] == "not UTF-8"
    assert row["sha256"] == hashlib.sha256(bad + b"\n").hexdigest()
    assert row["bytes"] == len(bad) + 1
    assert row["preview"] == '{"text": ' + "\ufffd" * 191
    assert list(part.parent.iterdir()) == [part]


def test_the_file_is_not_there_when_reading_failed(tmp_path: Path) -> None:
    """Would catch half a list of what was set aside taken for all of it."""
    part = tmp_path / "part-0.jsonl"
    with pytest.raises(DataError), Quarantine(part) as quarantine:
        quarantine.set_aside(RecordLocation("f", "line", 1), "not JSON", b"x", "not JSON")
        raise DataError("stop")
    assert list(tmp_path.iterdir()) == []


def test_memory_holds_a_few_rows_and_the_file_all() -> None:
    """Would catch a list of a billion rows in memory."""
    with Quarantine() as quarantine:
        for number in range(ROWS_IN_MEMORY * 2):
            quarantine.set_aside(RecordLocation("f", "line", number), "not JSON", b"x", "not JSON")
    assert len(quarantine.rows) == ROWS_IN_MEMORY
    assert quarantine.tally.malformed == ROWS_IN_MEMORY * 2


def tally(records: int, malformed: int, first: str | None = None) -> Tally:
    return Tally(records=records, malformed=malformed, first=first)


def test_too_many_malformed_records_stop_the_build() -> None:
    """Would catch a threshold judged by one task, or a message without place and mend."""
    total = tally(100, 0)
    total.absorb(tally(50, 10, "a.jsonl line 3: not JSON"))
    total.absorb(tally(50, 11, "b.jsonl line 9: not JSON"))
    total.check(0.105)
    with pytest.raises(DataError) as caught:
        total.check(0.1)
    assert str(caught.value) == (
        "21 of 200 records (10.5%) are malformed, above 10.0%; the first is a.jsonl line 3: not"
        " JSON: mend the input, or raise corpus.limits.malformed"
    )


def test_no_records_and_no_tolerance_are_judged() -> None:
    """Would catch a division by zero, or a limit of 0 that lets one through."""
    Tally().check(0.0)
    tally(10, 0).check(0.0)
    with pytest.raises(DataError, match=r"1 of 10 records \(10\.0%\)"):
        tally(10, 1, "x").check(0.0)


def test_a_tally_survives_being_written_down() -> None:
    """Would catch counts of a task lost on their way to the one that sums them up."""
    quarantine = Quarantine()
    quarantine.tally.records = 5
    quarantine.set_aside(RecordLocation("f", "row", 2), "no text", b"", '"text" is null')
    quarantine.tally.passed_over["page without prose"] += 2
    written = json.loads(json.dumps(quarantine.tally.summary()))
    assert Tally.from_summary(written) == quarantine.tally
    total = Tally.from_summary(written)
    total.absorb(quarantine.tally)
    assert total.reasons == {"no text": 2} and total.passed_over == {"page without prose": 4}
