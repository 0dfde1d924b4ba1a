import math

import pytest

from trainer.recovery.slow import BusyShare, slowest


@pytest.mark.parametrize(
    ("shares", "found"),
    [
        ([0.5, 1.0, 0.5], (1, 2.0)),
        ([0.9, 1.0, 0.95], None),
        ([0.4, 0.4, 0.4, 0.0], None),
        ([0.0, 1.0], (1, 50.0)),
        ([0.5, math.nan, 1.0], None),
        ([1.0], None),
    ],
    ids=str,
)
def test_the_rank_that_the_others_wait_for_is_the_busiest(
    shares: list[float], found: tuple[int, float] | None
) -> None:
    """Catches the waiting rank named, and a rank named where all are alike or one is unknown."""
    named = slowest(shares, 2.0)
    assert named == (None if found is None else (found[0], pytest.approx(found[1])))


def test_a_share_is_known_after_enough_looks() -> None:
    """Catches a rank called slow by two looks at it, and waiting counted as work."""
    turns = iter(range(10_000))
    busy = BusyShare(lambda: next(turns) % 4 == 0)
    for _ in range(59):
        busy._seen.append(not busy._waits())
    assert math.isnan(busy.share())
    busy._seen.append(not busy._waits())
    assert busy.share() == 0.75


def test_the_thread_looks_until_the_block_ends() -> None:
    """Catches a thread that never looks, or looks on when the run is over."""
    seen = []

    def waits() -> bool:
        seen.append(1)
        return False

    with BusyShare(waits) as busy:
        while not seen:
            pass
    assert not busy._thread.is_alive()
