import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.observe.starting import start
from trainer.observe import ProgressBar


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def record(step: int, loss: float | None = 2.5) -> dict[str, object]:
    return {"step": step, "loss": loss, "tokens_per_second": 12345.6}


def test_a_terminal_gets_a_bar_with_loss_rate_and_time_left(tmp_path: Path) -> None:
    """Would catch a bar that leaves out what a person watches for."""
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    bar = ProgressBar(console)
    bar.on_start(start(tmp_path, first_step=4))
    for step in range(4, 11):
        bar.on_step(record(step))
    bar.on_stop("done", "")
    for part in ("10/10", "loss 2.5000", "12,346 tokens/s"):
        assert part in shown(console)


def test_a_log_gets_lines_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a log full of control characters, or of a line a step."""
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    console = Console(file=io.StringIO(), width=80)
    bar = ProgressBar(console)
    bar.on_start(start(tmp_path, observe={"log_every": 2}))
    for step in range(1, 11):
        clock[0] += 6
        bar.on_step(record(step, None if step == 4 else 2.5))
    bar.on_stop("stopped", "SIGTERM")
    lines = shown(console).splitlines()
    assert [line.split()[1] for line in lines] == ["1/10", "4/10", "6/10", "8/10", "10/10"]
    assert lines[0] == "step 1/10  loss 2.5000  12,346 tokens/s  0:54 left"
    assert "skipped" in lines[1]


def test_events_are_lines_as_they_are(tmp_path: Path) -> None:
    """Would catch a sample in brackets taken for rich's markup, or wrapped."""
    console = Console(file=io.StringIO(), width=40)
    bar = ProgressBar(console)
    bar.on_start(start(tmp_path))
    bar.on_evaluate(5, {"eval/loss": 4.25})
    bar.on_sample(5, "[bold]The", " end[/bold]\n" + "x" * 50)
    bar.on_checkpoint(5, Path("run/checkpoints/step-00000005"), 1.26)
    assert shown(console).splitlines() == [
        "step 5: loss 4.2500",
        f"step 5, sample: '[bold]The' -> {' end[/bold]' + chr(10) + 'x' * 50!r}",
        "step 5: saved run/checkpoints/step-00000005 in 1.3 s",
    ]


def test_many_values_are_named_in_part(tmp_path: Path) -> None:
    """Would catch a screen full of a suite's figures."""
    console = Console(file=io.StringIO(), width=40)
    bar = ProgressBar(console)
    bar.on_start(start(tmp_path))
    bar.on_evaluate(5, {f"eval/a/{letter}": 0.5 for letter in "bcdefghi"})
    assert shown(console) == (
        "step 5: a/b 0.5000, a/c 0.5000, a/d 0.5000, a/e 0.5000, a/f 0.5000, 3 more\n"
    )


def test_a_suite_is_announced_once(tmp_path: Path) -> None:
    """Would catch a log with a line an item, and a second measurement that nobody sees begin."""
    console = Console(file=io.StringIO(), width=40)
    bar = ProgressBar(console)
    bar.on_start(start(tmp_path))
    for _ in range(2):
        for done in range(1001):
            bar.on_advance(5, "bias", done, 1000)
    assert shown(console).splitlines() == ["measuring bias: 1,000 items"] * 2
    terminal = Console(file=io.StringIO(), width=120, force_terminal=True)
    bar = ProgressBar(terminal)
    bar.on_start(start(tmp_path))
    bar.on_advance(5, "bias", 1000, 1000)
    bar.on_stop("done", "")
    assert "measuring bias 1,000/1,000" in shown(terminal)
