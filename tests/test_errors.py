"""One way for an error to reach another process: same line, same exit code, nearest known class."""

import json

import pytest

from trainer.errors import (
    CheckpointError,
    ClusterError,
    DataError,
    GateError,
    LyceumError,
    RecipeError,
    StopRequested,
    TrainingError,
    error_of,
    note_of,
)

KINDS = (
    *(LyceumError, RecipeError, DataError, CheckpointError),
    *(TrainingError, GateError, ClusterError, StopRequested),
)


class _Unheard(DataError):
    """A class that the receiving process has never imported, with a code of its own."""

    exit_code = 17


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_comes_back_as_it_was(kind: type[LyceumError]) -> None:
    """Catches a kind whose class, line or exit code is lost between processes."""
    error = error_of(json.loads(json.dumps(note_of(kind("what: where; mend")))))
    assert type(error) is kind
    assert str(error) == "what: where; mend"
    assert error.exit_code == kind.exit_code


def test_an_unknown_kind_comes_back_as_the_nearest_known_one() -> None:
    """Catches an AttributeError, or an exit code of 1, in the place of the cause."""
    error = error_of(json.loads(json.dumps(note_of(_Unheard("gone")))))
    assert type(error) is DataError
    assert (str(error), error.exit_code) == ("gone", 17)
    stranger = error_of({"kinds": ["Stranger"], "line": "who?", "exit_code": 9})
    assert type(stranger) is LyceumError
    assert stranger.exit_code == 9
    assert LyceumError.exit_code == 1  # the classes stay what they were


def test_a_name_that_is_no_error_is_not_called() -> None:
    """Catches a note that makes something else of this module than an error."""
    assert type(error_of({"kinds": ["Any", "DataError"], "line": "x", "exit_code": 3})) is DataError
