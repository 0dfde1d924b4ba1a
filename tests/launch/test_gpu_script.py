"""The script for a machine with a GPU: no part's failure costs another its result."""

import json
import sys
from pathlib import Path

import pytest

from launch.benchmarks.gpu import CURVE_TOLERANCE, Part, main, parts_of, run_parts


def _part(name: str, program: str, seconds: float = 60) -> Part:
    return Part(name, [sys.executable, "-c", program], seconds, [f"{name}.json"])


def test_a_part_that_fails_or_hangs_costs_no_other(tmp_path: Path) -> None:
    """Catches ten minutes of a GPU lost to one bad kernel."""
    write = f"open({str(tmp_path / 'good.json')!r}, 'w').write('1')"
    hang = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    parts = [
        _part("bad", "raise SystemExit('out of luck')"),
        _part("hanging", hang, seconds=1),
        _part("good", write),
    ]
    outcomes = run_parts(parts, tmp_path)
    assert [outcome.exit_code for outcome in outcomes] == [1, None, 0]
    assert [outcome.leaves for outcome in outcomes] == [[], [], ["good.json"]]
    assert outcomes[0].tail == ["out of luck"]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [one["part"] for one in summary["outcomes"]] == ["bad", "hanging", "good"]
    assert summary["environment"]["packages"]["torch"]


def test_every_part_fits_into_ten_minutes(tmp_path: Path) -> None:
    """Catches parts whose limits add up to more than one call may take."""
    assert sum(part.seconds for part in parts_of(tmp_path, dry=False)) <= 600


def test_the_dry_parts_run_on_this_machine(tmp_path: Path) -> None:
    """Catches a script whose first run, on a GPU, is its first run."""
    assert main([str(tmp_path), "bench", "curve", "train", "--dry"]) == 0
    curve = json.loads((tmp_path / "curve.json").read_text())
    assert len(curve["losses"]) == 2 and len(curve["losses"][0]) == 5
    assert curve["largest_difference"] <= CURVE_TOLERANCE
    assert json.loads((tmp_path / "bench.json").read_text())
    assert json.loads((tmp_path / "train.json").read_text())


def test_an_unknown_part_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a misspelt part that is silently left out."""
    with pytest.raises(SystemExit):
        main([str(tmp_path), "kernel"])
    assert "no part is called 'kernel'; there are kernels, bench" in capsys.readouterr().err
