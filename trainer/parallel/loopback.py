"""Where ranks that are all on this machine meet: at an address that no other machine can reach."""

import os
import socket
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch.distributed as dist

ON_LOOPBACK = "LYCEUM_LOOPBACK"
"""Environment variable of such ranks."""
_INTERFACE = "GLOO_SOCKET_IFNAME"


def loopback_environment() -> dict[str, str]:
    """The variables that keep the job's store and gloo's connections to this machine."""
    found = {ON_LOOPBACK: "1"}
    if sys.platform == "linux":
        found[_INTERFACE] = os.environ.get(_INTERFACE, "lo")
    return found


def loopback_store(rank: int, world: int, timeout: timedelta) -> "dist.Store":
    """The job's store at MASTER_PORT, whose server, in rank 0, listens on 127.0.0.1 alone.

    torch's own listens on every interface of the machine, and takes anybody's keys.
    """
    import torch.distributed as dist

    port = int(os.environ["MASTER_PORT"])
    descriptor = None
    if rank == 0:
        with socket.socket() as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("127.0.0.1", port))
            listening.listen(socket.SOMAXCONN)
            descriptor = listening.detach()  # the store closes it
    return dist.TCPStore(
        *("127.0.0.1", port, world, rank == 0), timeout=timeout, master_listen_fd=descriptor
    )
