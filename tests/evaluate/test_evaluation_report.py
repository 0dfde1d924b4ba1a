"""The table that `lyceum evaluate` shows."""

from pathlib import Path

import pytest

from trainer.evaluate.evaluation_report import EvaluationReport
from trainer.evaluate.intervals import Figure
from trainer.evaluate.suite_result import SuiteResult


def test_every_figure_has_its_interval_and_counts_have_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Would catch a share whose fair value is in the middle shown without how sure it is."""
    figures = {
        "gap": Figure(0.25, 720, 0.125, 0.375, better="lower"),
        "share_likelihood": Figure(0.5625, 720, 0.5, 0.625),
        "position_bias": Figure(1.0, 720, 0.75, 1.0),
        "tokens": Figure(4096.0, 12, 3072.0, 5120.0),
    }
    results = {"bias": SuiteResult(figures, 720)}
    EvaluationReport("run", 3, {}, {}, Path("records"), chats=True, results=results).show()
    lines = {" ".join(line.split()) for line in capsys.readouterr().out.splitlines()}
    assert {
        "bias gap 0.2500 0.1250 to 0.3750 720",
        "share_likelihood 0.5625 0.5000 to 0.6250 720",
        "position_bias 1.0000 0.7500 to 1.0000 720",
        "tokens 4,096 12",
    } <= lines


def test_no_number_is_cut_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch 0.5… in place of a figure, and a name whose end is lost."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    figures = {"share_likelihood_uncorrected": Figure(0.5625, 720, 0.5125, 0.6125, 13)}
    results = {"known-unknown": SuiteResult(figures, 720)}
    EvaluationReport("run", 3, {}, {}, Path("records"), chats=True, results=results).show()
    shown = capsys.readouterr().out
    assert "0.5625" in shown and "0.5125 to 0.6125" in shown and "…" not in shown


@pytest.mark.parametrize(
    ("suite", "said"), [("bias", 1), ("perplexity", 0), ("memorisation", 0), ("hellaswag", 0)]
)
def test_how_questions_are_asked_is_said_of_suites_that_ask_so(
    suite: str, said: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would catch a form of questions that is told of lm-eval's tasks, which have their own."""
    results = {suite: SuiteResult({"share": Figure(0.5, 2, 0.0, 1.0)}, 2)}
    EvaluationReport("run", 3, {}, {}, Path("records"), chats=False, results=results).show()
    assert capsys.readouterr().out.count("no chat template: questions are asked as") == said
