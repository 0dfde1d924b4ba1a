"""The corpus's order: sorted over all tasks, whatever the tasks."""

import random
from pathlib import Path

import numpy as np
import pytest

from trainer.corpus.build import shuffle
from trainer.corpus.build.shuffle import (
    KEYS,
    bucket_borders,
    count_range,
    document_key,
    merge_range,
    write_sorted,
)
from trainer.corpus.build.staged import LineWriter, Staged


def spread(folder: Path, texts: list[str], tasks: int) -> None:
    """Leave the texts as that many cleaning tasks do, the last one without any."""
    share = -(-len(texts) // max(tasks - 1, 1))
    for rank in range(tasks):
        mine = texts[rank * share : (rank + 1) * share] if rank < tasks - 1 or tasks == 1 else []
        writer = LineWriter(folder / "staged" / f"{rank}.jsonl")
        for text in mine:
            writer.write(Staged("id", "source", "head\n", text, "text").line())
        writer.close()
        keys = np.array([document_key(3, text) for text in mine], dtype=np.uint64)
        write_sorted(folder, rank, folder / "staged" / f"{rank}.jsonl", keys)


@pytest.fixture
def texts() -> list[str]:
    dice = random.Random(4)
    return ["line\nbreak " + "é" * dice.randrange(300) + str(n) for n in range(500)] + ["x" * 9999]


@pytest.mark.parametrize("tasks", [1, 2, 9])
def test_the_order_is_that_of_the_keys_whatever_the_tasks(
    tmp_path: Path, texts: list[str], tasks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch documents lost or doubled between runs, buffers or ranges, or order by task."""
    # Buffers smaller than a line, so that every line crosses the border of one.
    monkeypatch.setattr(shuffle, "SMALLEST_BUFFER", 64)
    monkeypatch.setattr(shuffle, "BUFFERS_BYTES", 64)
    spread(tmp_path, texts, tasks)
    expected = sorted(texts, key=lambda text: document_key(3, text))
    border = KEYS // 5
    ranges = bucket_borders(0, border, 2) + bucket_borders(border, KEYS, 3)
    found = [
        document.text
        for low, high in ranges
        for document in merge_range(tmp_path, tasks, low, high)
    ]
    assert found == expected
    assert ranges[0][0] == 0 and ranges[-1][1] == KEYS
    assert sum(count_range(tmp_path, tasks, *borders) for borders in ranges) == len(texts)


def test_a_range_goes_on_where_a_stopped_task_left_it(tmp_path: Path, texts: list[str]) -> None:
    """Would catch a shard that repeats or misses documents after a build was stopped."""
    spread(tmp_path, texts, 4)
    whole = list(merge_range(tmp_path, 4, 0, KEYS))
    for skip in (0, 1, 250, len(texts), len(texts) + 5):
        assert list(merge_range(tmp_path, 4, 0, KEYS, skip)) == whole[skip:]
