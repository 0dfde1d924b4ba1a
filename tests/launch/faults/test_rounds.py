"""Real runs are broken, and what becomes of them is held against undisturbed ones."""

import json
import os
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path

from launch.faults.__main__ import drawn
from launch.faults.layouts import LAYOUTS
from launch.faults.rounds import FAULTS

ROOT = Path(__file__).parents[3]


def play(into: Path, *words: str, expected: int = 0) -> list[dict[str, object]]:
    """What the rounds were, played in a process that has no threads of pytest's."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "launch.faults", "--into", str(into), *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert done.returncode == expected, done.stdout + done.stderr
    return [json.loads(line) for line in (into / "rounds.jsonl").read_text().splitlines()]


def test_five_rounds_at_random_pass(tmp_path: Path) -> None:
    """Catches an end that is not told truly, and weights that a fault has changed.

    The seed is printed where a round fails, and is another each time: so is the moment.
    """
    rounds = play(tmp_path, "--rounds", "5", "--seed", str(random.SystemRandom().randrange(10**6)))
    assert len(rounds) == 5 and not any(one["faults"] for one in rounds)


def test_a_round_that_goes_wrong_is_told(tmp_path: Path) -> None:
    """The negative control: held against weights of another run, a round fails."""
    rounds = play(
        *(tmp_path, "--rounds", "1", "--seed", "1", "--layout", "TP2", "--only", "clock"),
        *("--steps-of-reference", "9"),
        expected=1,
    )
    assert rounds[0]["faults"] == ["the weights differ from those of the undisturbed run"]


def test_every_fault_and_layout_comes_before_one_comes_again() -> None:
    """Catches dice that never show a fault, or always on one layout."""
    first = list(islice(drawn(list(LAYOUTS), list(FAULTS), random.Random(3)), len(FAULTS)))
    assert sorted(fault for _, fault in first) == sorted(FAULTS)
    assert {layout.name for layout, _ in first[: len(LAYOUTS)]} == {one.name for one in LAYOUTS}
