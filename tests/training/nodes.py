"""Nodes of a job under torchrun: each is a process of torchrun's on this machine, with one rank."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEARCH = "last_call_timeout=1,keep_alive_interval=1,keep_alive_max_attempt=8"
"""A node is given up after eight seconds, and the last one to come is waited for one second."""


class Node:
    """torchrun's process of a node that runs `words` behind `python -m`.

    `port`: where the nodes meet, at the one that is `host`; `log`: where it writes.
    """

    def __init__(self, port: int, words: Sequence[str], log: Path, host: bool = False) -> None:
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2:3"),
            *("--nproc-per-node", "1", "--max-restarts", "3", "--rdzv-backend", "c10d"),
            *("--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "nodes"),
            *("--local-addr", "127.0.0.1", "--rdzv-conf", f"{SEARCH},is_host={int(host)}"),
            *("-m", *words),
        ]
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "LYCEUM_LAUNCHER"))
        }
        environment |= {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        }
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                *(command,),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                process_group=0,
            )

    def ranks(self) -> list[int]:
        """Process ids of its ranks."""
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        try:
            return list(map(int, path.read_text().split()))
        except OSError:
            return []

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def vanish(self) -> None:
        """End it and its ranks at once, as a node does that loses its power."""
        for pid in (self._process.pid, *self.ranks()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Ask it to end, as a scheduler does."""
        self._process.terminate()

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        return self._process.wait()
