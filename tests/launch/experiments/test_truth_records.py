"""The records of the experiment on truth are read as they were written."""

import json
from pathlib import Path

from launch.experiments.truth.measuring import records_of
from trainer.evaluate.records import FAILED, RecordFile


def test_an_answer_with_a_line_separator_is_one_record(tmp_path: Path) -> None:
    """Would catch a record cut at a letter of the answer that some call the end of a line."""
    records = [
        {"id": "b", "answer": "one\u2028two\x85three"},
        {"id": "a", "answer": "four"},
        {"id": "c", FAILED: "too long"},
    ]
    with RecordFile(tmp_path, "held-out", {}, {"a", "b", "c"}, lambda record: True) as file:
        for record in records:
            file.add(record)
    assert len(json.dumps(records[0], ensure_ascii=False).splitlines()) == 3, "they do cut"
    assert records_of(tmp_path, "held-out") == [records[1], records[0]]
