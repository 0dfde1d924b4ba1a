"""Which rank has entered fewer collectives than the others, by PyTorch's own record."""

import json
import subprocess
import sys
from pathlib import Path

from launch.flight import make_pipe, write_flight_records
from trainer.recovery.flight import missing

ROOT = Path(__file__).parents[2]


def test_a_rank_that_hangs_in_a_collective_answers(tmp_path: Path) -> None:
    """Catches a recorder that only a rank which is well can be asked for."""
    pipes = {rank: tmp_path / f"flight-{rank}" for rank in (0, 1)}
    for pipe in pipes.values():
        make_pipe(pipe)

    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.recovery.flight_rank", str(rank), str(tmp_path)],
            cwd=ROOT,
        )
        for rank in pipes
    ]
    assert [rank.wait() for rank in ranks] == [0, 0]
    path = tmp_path / "collectives.json"
    assert (tmp_path / "said").read_text() == (
        f"of the 2 collectives of group 0 entered: rank 1 1, the last collectives in {path}"
    )
    last = json.loads(path.read_text())["0"][0]["last"][-1]
    assert last["profiling_name"] == "gloo:all_reduce" and last["collective_seq_id"] == 2


def test_nobody_is_asked_who_is_not_there(tmp_path: Path) -> None:
    """Catches a launcher that waits at the pipe of a rank which has ended."""
    make_pipe(tmp_path / "flight-0")
    assert write_flight_records({0: tmp_path / "flight-0"}, tmp_path / "records.json") == ""
    assert not (tmp_path / "records.json").exists()


def test_ranks_that_have_entered_alike_are_not_named() -> None:
    """Catches a rank that is blamed for a group which it is not in."""

    def record(**groups: int) -> list[dict[str, object]]:
        counts = {name: {"last_enqueued_collective": str(n)} for name, n in groups.items()}
        return [{"groups": counts, "last": []}]

    assert missing({0: record(a=3, b=1), 1: record(a=3), 2: []}) == ""
    assert missing({0: record(a=3, b=9), 1: record(a=2, b=9)}) == (
        "of the 3 collectives of group a entered: rank 1 2"
    )
