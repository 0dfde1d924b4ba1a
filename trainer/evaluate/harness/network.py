"""Whether the Hugging Face hub can be asked at all, so that nobody waits for what cannot answer."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies

_LOOKUPS, _PAUSE = 2, 1.0
"""Times that the hub's address is looked up, for a network that stumbles, and seconds between."""
_SWITCH = "HF_HUB_OFFLINE"


def hub_out_of_reach() -> str | None:
    """The hub's name where it has no address here and no proxy stands between; else None.

    The hub's own client would try each request six times, over half a minute.
    """
    from huggingface_hub import constants

    host = urlsplit(constants.ENDPOINT).hostname
    if host is None or getproxies():
        return None
    for left in reversed(range(_LOOKUPS)):
        try:
            socket.getaddrinfo(host, None)
        except OSError:
            if left:
                time.sleep(_PAUSE)
        else:
            return None
    return host


@contextmanager
def only_from_cache() -> Iterator[None]:
    """Data sets come from the cache, and the hub is not asked, as with HF_HUB_OFFLINE."""
    import datasets
    from huggingface_hub import constants

    switches = [constants, datasets.config]
    before = [getattr(one, _SWITCH) for one in switches]
    for one in switches:
        setattr(one, _SWITCH, True)
    try:
        yield
    finally:
        for one, value in zip(switches, before, strict=True):
            setattr(one, _SWITCH, value)
