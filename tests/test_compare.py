"""`lyceum compare`: where, and by how much, the losses of two runs differ."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from trainer.cli import main
from trainer.compare import compare_runs, read_steps
from trainer.errors import DataError

Losses = Sequence[float | None]


def a_run(folder: Path, losses: Losses, first: int = 1, **figures: Any) -> Path:
    """A run directory with these losses, and gradient norms of twice as much."""
    folder.mkdir(parents=True)
    records = (
        {"step": step, "loss": loss, "grad_norm": loss and 2 * loss, **figures}
        for step, loss in enumerate(losses, first)
    )
    lines = (json.dumps(record) + "\n" for record in records)
    (folder / "metrics.jsonl").write_text("".join(lines))
    return folder


def test_the_same_losses_are_said_to_be_bitwise_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches equality by rounding: the last bit of one loss must be seen."""
    losses = [3.0, 0.1 + 0.2, 1e-300]
    a = a_run(tmp_path / "a", losses)
    b = a_run(tmp_path / "b", losses)
    assert main(["compare", str(a), str(b), "--tolerance", "0"]) == 0
    assert "all 3 losses are bitwise the same" in capsys.readouterr().out
    c = a_run(tmp_path / "c", [3.0, math.nextafter(0.1 + 0.2, 1.0), 1e-300])
    compared = compare_runs(a, c)
    assert compared.loss.same == 2
    assert compared.loss.first_different is not None
    assert compared.loss.first_different.step == 2
    assert compared.loss.first_beyond is None
    assert main(["compare", str(a), str(c)]) == 0
    assert "bitwise the same" not in capsys.readouterr().out
    assert main(["compare", str(a), str(c), "--tolerance", "0"]) == 5


def test_the_figures_of_a_comparison(tmp_path: Path) -> None:
    """Catches a mean over the wrong steps, and the first step beyond taken for the largest."""
    a = a_run(tmp_path / "a", [4.0, 3.0, 2.0, 1.0])
    b = a_run(tmp_path / "b", [4.0, 3.25, 1.5, 1.125])
    loss = compare_runs(a, b, tolerance=0.25).loss
    assert (loss.largest.step, loss.largest.distance) == (3, 0.5)
    assert loss.mean == (0.25 + 0.5 + 0.125) / 4
    assert loss.measured[-1].difference == 0.125
    assert loss.first_different is not None
    assert loss.first_different.step == 2
    assert loss.first_beyond is not None
    assert loss.first_beyond.step == 3  # 0.25 itself is within a tolerance of 0.25
    grad_norm = compare_runs(a, b, tolerance=0.25).grad_norm
    assert (grad_norm.largest.step, grad_norm.largest.distance) == (3, 1.0)


def test_a_tolerance_that_is_given_is_a_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a script that goes on after runs parted, and a plain look that fails one."""
    a, b = a_run(tmp_path / "a", [2.0, 1.0]), a_run(tmp_path / "b", [2.0, 1.5])
    assert main(["compare", str(a), str(b)]) == 0
    assert "from step 2" in capsys.readouterr().out
    assert main(["compare", str(a), str(b), "--tolerance", "0.5"]) == 0
    capsys.readouterr()
    assert main(["compare", str(a), str(b), "--tolerance", "0.4"]) == 5
    error = capsys.readouterr().err
    assert error == "lyceum: error: losses differ by more than 0.4, first at step 2: 1 and 1.5\n"


@pytest.mark.parametrize("wrong", ["-1", "nan", "inf", "x", ""])
def test_a_tolerance_is_a_number_from_zero(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches NaN, with which nothing would ever be beyond the tolerance."""
    assert main(["compare", "a", "b", f"--tolerance={wrong}"]) == 2
    assert repr(wrong) in capsys.readouterr().err


def test_runs_of_other_lengths_are_compared_where_both_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches losses paired by their line instead of their step."""
    a = a_run(tmp_path / "a", [9.0, 8.0, 7.0, 6.0])
    b = a_run(tmp_path / "b", [7.0, 6.0, 5.0], first=3)
    compared = compare_runs(a, b)
    assert [pair.step for pair in compared.loss.pairs] == [3, 4]
    assert compared.loss.same == 2
    assert compared.only == ([1, 2], [5])
    assert main(["compare", str(a), str(b), "--tolerance", "0"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"first: {a}, 4 steps, 1 to 4; in this run only: 1 to 2" in shown
    assert "in this run only: 5" in shown


def test_a_step_that_both_runs_skipped_counts_for_nothing(tmp_path: Path) -> None:
    """Catches a skipped step read as a loss of zero."""
    a, b = a_run(tmp_path / "a", [2.0, None, 1.0]), a_run(tmp_path / "b", [2.5, None, 1.0])
    loss = compare_runs(a, b, tolerance=1.0).loss
    assert (len(loss.measured), loss.mean, loss.one_sided) == (2, 0.25, [])
    assert loss.first_beyond is None


def test_losses_are_counted_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches "all 1 losses"."""
    one, two = a_run(tmp_path / "one", [2.0]), a_run(tmp_path / "two", [2.0, 1.0])
    assert main(["compare", str(one), str(one)]) == 0
    assert "\n1 loss is bitwise the same\n" in capsys.readouterr().out
    assert main(["compare", str(two), str(two)]) == 0
    assert "\nall 2 losses are bitwise the same\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("null", "skipped"),
        ("NaN", "not finite"),
        ("Infinity", "not finite"),
        ("-Infinity", "not finite"),
    ],
)
def test_a_step_that_one_run_skipped_is_beyond_any_tolerance(
    word: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a run that diverged passing for one that agrees, as NaN compares false."""
    a = a_run(tmp_path / "a", [2.0, 1.0])
    b = tmp_path / "b.jsonl"
    b.write_text(f'{{"step": 1, "loss": 2.0}}\n{{"step": 2, "loss": {word}}}\n')
    loss = compare_runs(a, b).loss
    assert loss.one_sided == [2]
    assert loss.largest.distance == 0.0
    assert main(["compare", str(a), str(b), "--tolerance", "1e9"]) == 5
    shown = capsys.readouterr()
    assert f"{said} in one run only: 2" in shown.out
    assert f"first at step 2: 1 and {said}" in shown.err
    assert main(["compare", str(a), str(b), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"][1]["loss"] == [1.0, None]


def test_json_holds_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches text mixed with the JSON, losses rounded, and NaN, which is no JSON."""
    a = a_run(tmp_path / "a", [2.0, None, 0.1] + [1.0] * 50)
    b = a_run(tmp_path / "b", [2.0, 1.0, 0.1 + 0.2] + [1.0] * 51)
    assert main(["compare", str(a), str(b), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(word))
    assert len(found["steps"]) == 53
    assert found["steps"][1]["loss"] == [None, 1.0]
    assert found["steps"][1]["loss_difference"] is None
    assert found["steps"][2]["loss"] == [0.1, 0.1 + 0.2]
    assert found["loss"]["compared"] == 52
    assert found["loss"]["bitwise_the_same"] == 51
    assert found["loss"]["in_one_run_only"] == [2]
    assert found["loss"]["first_step_beyond_tolerance"] == 2
    assert found["loss"]["largest_step"] == 3
    assert found["steps_in_one_run_only"] == [[], [54]]
    assert found["tolerance"] == 1e-5
    path = tmp_path / "out.json"
    assert main(["compare", str(a), str(b), "--json", str(path)]) == 0
    assert json.loads(path.read_text()) == found
    assert "same bits" in capsys.readouterr().out


def test_a_long_comparison_shows_the_steps_that_matter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches thousands of lines on the screen, or the step that parted left out of twenty."""
    monkeypatch.setenv("COLUMNS", "80")
    losses = [2.0] * 1000
    a = a_run(tmp_path / "a", losses)
    losses[122], losses[345], losses[701] = 2.0 + 1e-9, 2.1, 3.0
    b = a_run(tmp_path / "b", losses)
    assert main(["compare", str(a), str(b)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [words for line in lines if len(words := line.split()) == 5 and words[0].isdecimal()]
    steps = [int(words[0]) for words in rows]
    assert steps == sorted(steps)
    assert 15 <= len(steps) <= 20
    assert {1, 123, 346, 702, 1000} <= set(steps)


def test_a_line_cut_short_at_the_end_is_a_run_at_work(tmp_path: Path) -> None:
    """Catches a comparison that fails while one of the runs still trains."""
    a = a_run(tmp_path / "a", [2.0, 1.0])
    with (a / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"step": 3, "lo')
    assert list(read_steps(a)) == [1, 2]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no step is finished yet"),
        ('{"step": 1, "lo', "no step is finished yet"),
        ('{"step": 1, "loss": 2.0}\nnonsense\n{"step": 2, "loss": 1.0}\n', "line 2: no record"),
        ('{"step": 1, "loss": 2.0}\n\n', "line 2: no record"),
        ("[1]\n", "line 1: no record"),
        ('{"loss": 2.0}\n', "line 1: no record"),
        ('{"step": 1}\n', "line 1: no record"),
        ('{"step": true, "loss": 2.0}\n', "line 1: no record"),
        ('{"step": 0, "loss": 2.0}\n', "line 1: no record"),
        ('{"step": 1.5, "loss": 2.0}\n', "line 1: no record"),
        ('{"step": 1, "loss": "2.0"}\n', "line 1: no record"),
        ('{"step": 1, "loss": [2.0]}\n', "line 1: no record"),
        (f'{{"step": 1, "loss": 1{"0" * 400}}}\n', "line 1: no record"),
        (f"{'[' * 100000}\n", "line 1: no record"),
        ('{"step": 2, "loss": 2.0}\n{"step": 2, "loss": 2.0}\n', "line 2: step 2 stands after"),
        ('{"step": 2, "loss": 2.0}\n{"step": 1, "loss": 2.0}\n', "line 2: step 1 stands after"),
        ('{"step": 9, "loss": 2.0}\n', "no step is in both runs"),
        ('{"step": 1, "loss": null}\n', "all were skipped"),
        ('{"step": 1, "loss": NaN}\n', "no step has a finite loss in both"),
    ],
)
def test_metrics_that_cannot_be_compared_are_one_line_and_exit_3(
    text: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a trace, or a comparison over what is left of a damaged file."""
    a = a_run(tmp_path / "a", [2.0])
    b = tmp_path / "b"
    b.mkdir()
    (b / "metrics.jsonl").write_text(text)
    assert main(["compare", str(a), str(b)]) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert part in shown.err
    assert str(b) in shown.err


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Catches a misspelt run compared as an empty one; a folder without metrics is none."""
    with pytest.raises(DataError, match=r"absent: no such file; give a run directory"):
        read_steps(tmp_path / "absent")
    with pytest.raises(DataError, match=r"metrics.jsonl: no such file"):
        read_steps(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_steps(a_run(tmp_path / "a", [1.0]) / "metrics.jsonl" / "deeper")
