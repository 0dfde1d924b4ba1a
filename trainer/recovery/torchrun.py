"""What a rank under torchrun knows of its job, whose nodes may come and go.

torchrun's process of a node starts the node's ranks again where one fails, where a node is lost and
where one comes: with SIGTERM, and with other ranks, as many as there are then.
"""

import logging
import os

from trainer.errors import ClusterError

_log = logging.getLogger(__name__)

_RUN_ID = "TORCHELASTIC_RUN_ID"
_RESTART_COUNT = "TORCHELASTIC_RESTART_COUNT"
_MAX_RESTARTS = "TORCHELASTIC_MAX_RESTARTS"
_SHARED_STORE = "TORCHELASTIC_USE_AGENT_STORE"
_OWN_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


def under_torchrun() -> bool:
    """Whether torchrun started this rank."""
    return _RUN_ID in os.environ


def torchrun_restarts() -> int:
    """How often torchrun has started this node's ranks again; not counted are changes of nodes."""
    return int(os.environ.get(_RESTART_COUNT, "0"))


def torchrun_job() -> str | None:
    """The name of torchrun's job, as `--rdzv-id` gives it; None where it has none of its own."""
    name = os.environ.get(_RUN_ID)
    return None if name in (None, "none") else name


def check_store(nodes_change: bool) -> None:
    """Look whether torchrun keeps one store over all restarts, as it does by default.

    Ranks that are started again may then find the addresses of those before them, and a node that
    comes back waits for an address that nobody writes (torch 2.13, and
    findings/torch-restarted-ranks-meet-the-dead.sh). Raises ClusterError where `nodes_change`, else
    it is said where torchrun may start ranks again.
    """
    if os.environ.get(_SHARED_STORE) != "True":
        return
    line = (
        "torchrun keeps its store over a restart, in which ranks that are started again may not "
        f"meet; set {_OWN_STORE}=1 for torchrun on every node"
    )
    if nodes_change:
        raise ClusterError(f"recovery.minimum_replicas: {line}")
    if os.environ.get(_MAX_RESTARTS, "0") != "0" and os.environ.get("RANK") == "0":
        _log.warning(line)
