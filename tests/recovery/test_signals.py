import os
import signal

import pytest

from trainer.recovery import StopSignals
from trainer.recovery.signals import STOPPING


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_asks_for_a_stop_and_kills_nothing(number: signal.Signals) -> None:
    """Would catch a run that dies on a cluster's warning instead of saving."""
    with StopSignals() as signals:
        assert signals.requested is None
        os.kill(os.getpid(), number)
        assert signals.requested == number.name


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_ends_at_once(first: signal.Signals) -> None:
    """Would catch a person who cannot get out of a save that hangs."""
    with pytest.raises(KeyboardInterrupt), StopSignals():
        os.kill(os.getpid(), first)
        os.kill(os.getpid(), signal.SIGINT)
        assert first == signal.SIGTERM  # the first interrupt of its kind only asks
        os.kill(os.getpid(), signal.SIGINT)


def test_the_first_signal_is_the_reason() -> None:
    """Would catch a status that names the wrong cause."""
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.requested == "SIGUSR1"


def test_the_handlers_before_come_back() -> None:
    """Would catch a shell that no longer reacts to CTRL-C after training."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), StopSignals():
        assert signal.getsignal(signal.SIGINT) != before
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) == before


def test_under_nohup_a_hang_up_is_no_request() -> None:
    """Would catch a run that stops when its terminal closes, though nohup was to keep it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.requested is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
