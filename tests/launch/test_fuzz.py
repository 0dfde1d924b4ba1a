"""Damaged files of every kind are read, or refused in one line; what else happens is told."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launch.fuzz import __main__ as fuzz
from launch.fuzz.mutate import damaged
from trainer.errors import DataError

ROOT = Path(__file__).parents[2]


def test_a_thousand_damaged_files() -> None:
    """Would catch a stack trace, a hang, a crash or a memory filled by a file that is not whole."""
    command = [sys.executable, "-m", "launch.fuzz", "--cases", "1000", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-2000:]}"
    assert "1,000 cases, seed 7: 0 failed" in done.stdout
    kinds = ("recipe", "corpus", "input", "tars", "checkpoint", "set", "run", "model", "gguf")
    assert all(f"{kind} read" in done.stdout for kind in kinds), "not all is refused"
    assert all(f"{kind}Error" in done.stdout for kind in ("Recipe", "Data", "Checkpoint"))


def test_the_same_dice_do_the_same_damage() -> None:
    """Would catch a failure that its number does not repeat."""
    content = b'{"a": [1, 2, {"b": "c"}]}\nkey: value\n' * 9
    made = [damaged(content, random.Random(f"7 {number}")) for number in range(200)]
    assert made == [damaged(content, random.Random(f"7 {number}")) for number in range(200)]
    assert len(set(made)) > 150 and content not in made[:9]


def test_what_fails_is_counted_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Negative control: an exception, a dead process, a line of two, each with its number."""

    def play(seed: int, number: int, *others: Any) -> str:
        if number == 2:
            raise KeyError("not ours")
        if number == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 6:
            raise fuzz.CaseTooLong
        if number == 8:
            raise DataError("")
        if number == 9:
            raise DataError("a file: what is wrong; the mend")
        return "kind"

    monkeypatch.setattr(fuzz, "play", play)
    assert fuzz.played(1, 0, 12, tmp_path, tmp_path) == 4
    said = capfd.readouterr().out
    for number in (2, 4, 6, 8):
        assert f"case {number} " in said
        assert f"--cases 1 --seed 1 --first {number}" in said
    assert "case 9" not in said and "DataError 1, kind read 4" in said
    monkeypatch.setattr(fuzz, "play", lambda *_: "kind")
    assert fuzz.played(1, 0, 3, tmp_path, tmp_path) == 0
