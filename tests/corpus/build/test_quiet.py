"""A build shows its own lines, and nothing of what libraries warn and log on the way."""

import logging
import sys
import warnings

import pytest

from trainer.cli import main
from trainer.corpus.build.execute import _quietly


def speak(who: str) -> None:
    """All the ways in which a library is heard."""
    warnings.warn(f"{who} warns", UserWarning, stacklevel=2)
    # No installed library's name: spaCy's logger writes to the stderr of a test that imported it.
    logging.getLogger("parser").error("%s logs an error", who)
    logging.getLogger("py.warnings").warning("%s logs a warning", who)
    print(f"{who} prints", file=sys.stderr)


def test_libraries_are_not_heard_while_a_task_runs(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a line a document of what a parser thinks of it; behind the task all is as before."""
    with caplog.at_level(logging.INFO), pytest.warns(UserWarning, match="afterwards warns"):
        with _quietly():
            speak("inside")
            logging.getLogger("trainer.corpus").info("our own line")
        speak("afterwards")
    assert [one for one in caplog.messages if "inside" in one] == []
    assert "our own line" in caplog.messages
    assert {"afterwards logs an error", "afterwards logs a warning"} <= set(caplog.messages)
    assert capsys.readouterr().err == "afterwards prints\n"


def test_the_command_hides_warnings_and_debug_shows_them() -> None:
    """Catches a dependency's warning, of any package, among the lines of a verb."""
    for words, shown in ((["recipe", "steps"], False), (["recipe", "steps", "--debug"], True)):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("default")
            assert main([*words]) == 0
            warnings.warn("from a library", DeprecationWarning, stacklevel=1)
        assert bool(seen) == shown, words
