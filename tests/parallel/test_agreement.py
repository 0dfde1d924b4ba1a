"""What one rank does for all."""

import threading

import pytest
import torch.distributed as dist

from tests.parity.ranks import on_ranks
from trainer.errors import DataError
from trainer.parallel.agreement import Ranks, on_first_rank


def waits_for_signs(wanted: int) -> tuple[int, str]:
    """How many messages this rank took part in, and the result of an action that ends only once
    the others have heard from rank 0 `wanted` times.
    """
    dist.init_process_group("gloo")
    ranks, heard, enough = Ranks(), 0, threading.Event()
    share = ranks.share

    def counted(value: object) -> object:
        nonlocal heard
        answer = share(value)
        heard += 1
        if heard >= wanted:
            enough.set()
        return answer

    ranks.share = counted  # type: ignore[method-assign]

    def action() -> str:
        assert ranks.rank == 0
        assert enough.wait(60)
        return "done"

    result = on_first_rank(ranks, action, every_seconds=0.001)
    return heard, result


def fails() -> str:
    dist.init_process_group("gloo")

    def action() -> None:
        raise DataError("what is wrong")

    try:
        on_first_rank(Ranks(), action)
    except DataError as error:
        return str(error)
    return "nothing"


def test_ranks_that_wait_for_a_long_build_hear_that_it_goes_on() -> None:
    """Would catch ranks that give up after half an hour, while rank 0 tokenises a terabyte."""
    heard, results = zip(*on_ranks(3, waits_for_signs, 3), strict=True)
    assert results == ("done",) * 3
    assert len(set(heard)) == 1 and heard[0] > 3, "three signs, and the answer"


def test_an_error_of_rank_0_is_everyones() -> None:
    """Would catch a rank that waits for ever, or goes on without its data."""
    assert on_ranks(2, fails) == ["what is wrong"] * 2


@pytest.mark.parametrize("every_seconds", [0.0, 300.0])
def test_a_rank_alone_tells_nobody(every_seconds: float) -> None:
    """Would catch a thread that lives on in a run of one rank."""
    before = threading.active_count()
    assert on_first_rank(Ranks(), lambda: 3, every_seconds) == 3
    assert threading.active_count() == before
