import pytest

from trainer.recovery.goodput import Goodput, Ledger

PHASES = {
    "start": 2.0,
    "load": 1.0,
    "data": 0.5,
    "counting": 0.5,
    "forward and backward": 6.0,
    "update": 1.5,
    "evaluation": 3.0,
    "save": 0.5,
}


def test_all_time_is_useful_or_has_a_name() -> None:
    """Catches seconds counted twice, or lost without a name."""
    goodput = Goodput(Ledger(), began=100.0, entered=104.0, replayed=0, compiles=False)
    goodput.made(1, {"forward and backward": 2.0})
    goodput.made(2, PHASES)
    goodput.read(1, skipped=True)
    goodput.read(2, skipped=False)
    ledger = goodput.ledger(PHASES, now=120.0)
    assert ledger.wall == 20.0
    assert ledger.useful == pytest.approx(6.0), "8 s of steps, of which 2 s were skipped"
    named = {name: lost for name, lost in ledger.lost.items() if lost}
    assert named == pytest.approx(
        {
            "imports": 4.0,
            "start": 2.0,
            "load": 1.0,
            "data_wait": 0.5,
            "evaluation": 3.0,
            "save_stall": 0.5,
            "skipped": 2.0,
            "other": 1.0,
        }
    )
    assert ledger.useful + sum(named.values()) == pytest.approx(ledger.wall)
    assert ledger.fraction == pytest.approx(0.3)


def test_earlier_starts_count_and_so_does_the_time_between() -> None:
    """Catches a run that was down for a day and says that it was useful for most of it."""
    first = Goodput(Ledger(), began=0.0, entered=1.0, replayed=0, compiles=False)
    first.made(1, {"update": 9.0})
    status = {"state": "running", "goodput": first.ledger({"update": 9.0}, 10.0).as_json(1000.0)}
    before = Ledger.of_status(status, now=1030.0)
    assert (before.wall, before.useful, before.lost["down"]) == (40.0, 9.0, 30.0)
    second = Goodput(before, began=50.0, entered=51.0, replayed=1, compiles=False)
    second.made(1, {"update": 9.0})  # again
    second.read(1, skipped=False)
    second.made(2, {"update": 18.0})
    second.read(2, skipped=False)
    ledger = second.ledger({"update": 18.0}, 69.0)
    assert (ledger.wall, ledger.useful, ledger.lost["replay"]) == (59.0, 18.0, 9.0)
    assert ledger.lost["imports"] == 2.0


def test_a_run_that_was_done_was_not_down() -> None:
    """Catches a run that is prolonged a week later, and had no fault in that week."""
    status = {"state": "done", "goodput": Ledger(10.0, 9.0, {"start": 1.0}).as_json(1000.0)}
    assert Ledger.of_status(status, now=9000.0) == Ledger(10.0, 9.0, {"start": 1.0})


@pytest.mark.parametrize(
    "status", [None, {}, {"goodput": None}, {"goodput": {"wall_seconds": "x"}}], ids=str
)
def test_without_a_record_it_begins(status: dict[str, object] | None) -> None:
    """Catches a stack trace for a status.json of an earlier version."""
    assert Ledger.of_status(status, 5.0) == Ledger()


def test_what_a_first_step_takes_more_is_compiling() -> None:
    """Catches a minute of compiling taken for the useful time of a step."""
    goodput = Goodput(Ledger(), began=0.0, entered=0.0, replayed=0, compiles=True)
    useful = 0.0
    for step, seconds in enumerate([30.0, 1.0, 1.0, 1.0, 1.0, 2.0], 1):
        useful += seconds
        goodput.made(step, {"update": useful})
        goodput.read(step, skipped=False)
    ledger = goodput.ledger({"update": useful}, useful)
    assert ledger.lost["compile"] == 29.0 and ledger.useful == useful - 29.0
