"""What `lyceum report` refuses, or goes on without, in one line each."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.report.recorded import record_run, step_record
from trainer.cli import main


def line_of(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    """The one line with which the command ends with this exit code."""
    assert main(["report", *words]) == code
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert shown.out == ""
    return line


def test_what_is_no_run_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would catch a stack trace, or an empty page, for a mistyped path."""
    assert "does not exist" in line_of(capsys, 3, str(tmp_path / "mistyped"))
    (tmp_path / "file").write_text("")
    assert "is a file" in line_of(capsys, 3, str(tmp_path / "file"))
    (tmp_path / "folder").mkdir()
    assert "is no run" in line_of(capsys, 3, str(tmp_path / "folder"))
    # What failed while its model was asked has a status alone.
    (tmp_path / "folder" / "status.json").write_text('{"state": "failed"}')
    assert "made no step, and its status.json says failed" in line_of(
        capsys, 3, str(tmp_path / "folder")
    )
    run = record_run(tmp_path / "run")
    (run / "recipe.yaml").write_text("a: [")
    assert "cannot be read as YAML" in line_of(capsys, 3, str(run))


def test_a_checkpoint_is_told_from_its_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would catch a report over a checkpoint, whose recipe looks like a run's."""
    run = record_run(tmp_path / "run")
    checkpoint = run / "checkpoints" / "step-00000012"
    checkpoint.mkdir(parents=True)
    shutil.copy(run / "recipe.yaml", checkpoint)
    (checkpoint / "checkpoint.json").write_text("{}")
    assert f"give its run, {run}" in line_of(capsys, 3, str(checkpoint))


def test_a_run_that_made_no_step_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would catch an empty page that looks as if training had failed to learn."""
    run = record_run(tmp_path / "run", [])
    assert "no step is finished yet" in line_of(capsys, 3, str(run))
    (run / "metrics.jsonl").write_text("damaged\n")
    assert "none of its lines is a step's record" in line_of(capsys, 3, str(run))
    (run / "metrics.jsonl").unlink()
    assert "has never made a step" in line_of(capsys, 3, str(run))
    assert not (run / "report.html").exists()


def test_damaged_lines_are_named_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Would catch a damaged line that ends the report, or is dropped without a word."""
    run = record_run(tmp_path / "run")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    lines[3], lines[7] = '{"step": 4, "loss": ', "[]"
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert main(["report", str(run)]) == 0
    said = "run/metrics.jsonl: lines 4, 8 of it are not the record of a step, and left out."
    assert caplog.messages == [said]
    assert said in (run / "report.html").read_text()


def test_a_page_that_cannot_be_written_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would catch a stack trace, or a page that is lost without a word."""
    run = record_run(tmp_path / "run")
    assert "is a folder; name a file in it" in line_of(capsys, 2, str(run), "--out", str(tmp_path))
    nowhere = str(tmp_path / "nowhere" / "page.html")
    assert "cannot be written" in line_of(capsys, 2, str(run), "--out", nowhere)
    assert "is named twice" in line_of(capsys, 2, str(run), str(run))


def test_a_failed_write_leaves_the_page_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a page that is cut short in its place."""
    run = record_run(tmp_path / "run")
    assert main(["report", str(run)]) == 0
    before = (run / "report.html").read_text()
    record_run(run, map(step_record, range(1, 5)))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert main(["report", str(run)]) == 2
    assert (run / "report.html").read_text() == before
    assert [path.name for path in run.iterdir() if path.name.startswith("report")] == [
        "report.html"
    ]


def test_a_report_loads_neither_torch_nor_what_watches(tmp_path: Path) -> None:
    """Would catch a page that waits seconds for an engine that it does not use."""
    run = record_run(tmp_path / "run")
    program = (
        "import sys; from trainer.cli import main; code = main(['report', sys.argv[1]]);"
        " heavy = {'torch', 'megatron', 'transformers', 'trainer.observe'} & set(sys.modules);"
        " sys.exit(f'loaded: {heavy}' if heavy or code else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(run)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
