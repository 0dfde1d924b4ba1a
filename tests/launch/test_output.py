"""Standard output that cannot be written, or that nobody reads: one line, or none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.failure import FAILURE_FILE, read_failure
from launch.output import unwritable
from tests.loaded import ROOT
from trainer.errors import RecipeError

FULL = Path("/dev/full")
LINE = (
    "lyceum: error: standard output cannot be written: No space left on device; make room, or"
    " send it elsewhere\n"
)


def onto_a_full_disk(*words: str) -> subprocess.CompletedProcess[str]:
    """The command with standard output on a device that has no room."""
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    with FULL.open("w") as full:
        return subprocess.run(
            [sys.executable, *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=buffered,
        )


@pytest.mark.parametrize("words", ["recipe", "--version", "train tiny --show"])
def test_a_full_disk_under_standard_output_is_one_line(words: str) -> None:
    """Catches a stack trace, and what Python itself says of output that waits until the exit."""
    answer = onto_a_full_disk("-m", "trainer", *words.split())
    assert (answer.returncode, answer.stderr) == (2, LINE)


def test_an_error_is_shown_though_standard_output_is_full() -> None:
    """Catches the cause hidden behind the disk: output still waits when the verb fails."""
    program = (
        "import sys, trainer.cli as cli\n"
        "from trainer.errors import GateError\n"
        "def run(words):\n    print('waits')\n    raise GateError('the cause')\n"
        "cli._run = run\nsys.exit(cli.main([]))"
    )
    answer = onto_a_full_disk("-c", program)
    assert (answer.returncode, answer.stderr) == (5, "lyceum: error: the cause\n")


def test_a_rank_says_the_same_to_the_process_that_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches the stack trace of a rank for a full disk."""
    note = tmp_path / "note.json"
    monkeypatch.setenv(FAILURE_FILE, str(note))
    program = (
        "import sys\nfrom launch.failure import leave_failure\n"
        "try:\n    print('a', flush=True)\n"
        "except OSError as error:\n    sys.exit(0 if leave_failure(error) else 1)"
    )
    assert onto_a_full_disk("-c", program).returncode == 0
    failure = read_failure(note, 0, 1, 0)
    assert isinstance(failure.error, RecipeError)
    assert "standard output cannot be written" in str(failure.error)


def test_another_files_error_is_not_taken_for_it(capfd: pytest.CaptureFixture[str]) -> None:
    """Catches a full disk under a checkpoint blamed on a standard output that takes more."""
    assert unwritable(OSError(28, "No space left on device")) is None
    assert unwritable(OSError(28, "No space left on device", "a/file")) is None
    assert unwritable(PermissionError(13, "Permission denied")) is None
    assert unwritable(BrokenPipeError(32, "Broken pipe")) is None
