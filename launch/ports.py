"""The port at which local ranks meet."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from trainer.errors import ClusterError


@contextmanager
def own_port(wanted: int = 0) -> Iterator[int]:
    """Port `wanted` (0: a free one) of 127.0.0.1, which nobody else gets inside the block.

    Linux gives no port that a socket is bound to, neither to a bind to port 0 nor to an outgoing
    connection. As this socket allows reuse and does not listen, a server that allows reuse may
    listen there, and the first rank's store does. A port that was looked up and let go can be
    somebody else's by the time that the ranks meet.

    Raises OSError where the port cannot be had.
    """
    with socket.socket() as reservation, socket.socket(socket.AF_UNIX) as claim:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind(("127.0.0.1", wanted))
        port = reservation.getsockname()[1]
        if sys.platform == "linux":
            # A second launch could share the reservation until the store listens. A name of the
            # abstract namespace has one owner on a machine, and goes with its process.
            claim.bind(f"\0lyceum-port-{port}")
        yield port


@contextmanager
def master_port() -> Iterator[int]:
    """The ranks' own port: MASTER_PORT where it is given, else a free one.

    Raises ClusterError where MASTER_PORT is no port, or one that is in use.
    """
    given = os.environ.get("MASTER_PORT", "0")
    if not given.isdecimal() or int(given) > 65535:
        raise ClusterError(f"MASTER_PORT: {given!r} is not a port; unset it, or give 1 to 65535")
    with ExitStack() as stack:
        try:
            port = stack.enter_context(own_port(int(given)))
        except OSError as error:
            raise ClusterError(
                f"MASTER_PORT: port {given} cannot be used ({error.strerror}); unset it to take "
                "any free one, or choose another"
            ) from error
        yield port
