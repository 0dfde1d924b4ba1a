"""The suite itself: the order it runs in, and that no test's outcome hangs on a clock."""

import re
from pathlib import Path

from tests.conftest import FOLDER, LONGEST

# Seconds after which a process counts as hung, and a script that times two commits.
MAY_READ_A_CLOCK = {
    "cluster/slurm.py",
    "compatibility/against_commit.py",
    "launch/test_ranks.py",
}
CLOCK = re.compile(
    r"\btime\.(perf_counter|process_time|thread_time|monotonic)(_ns)?\(|\btime\.time\(\) - [a-z]"
)


def test_the_longest_files_are_there() -> None:
    """Catches a list that a move has outdated: what it named would begin last, and end alone."""
    assert [name for name in LONGEST if not (FOLDER / name).is_file()] == []


def test_no_test_measures_time() -> None:
    """Catches an assertion that a busy machine breaks; count calls, lines or bytes instead."""
    found = {
        str(path.relative_to(FOLDER))
        for path in FOLDER.rglob("*.py")
        if path != Path(__file__) and CLOCK.search(path.read_text(encoding="utf-8"))
    }
    assert found == MAY_READ_A_CLOCK


def test_a_clock_is_recognised() -> None:
    """Catches a search that finds nothing."""
    assert CLOCK.search("began = time.process_time()")
    assert CLOCK.search("assert time.time() - began < 5")
    assert not CLOCK.search('monkeypatch.setattr("time.monotonic", lambda: 0.0)')
