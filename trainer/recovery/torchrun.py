"""What a rank under torchrun knows of its job, whose nodes may come and go.

torchrun's process of a node starts the node's ranks again where one fails, where a node is lost and
where one comes: with SIGTERM, and with other ranks, as many as there are then.
"""

import os

from trainer.errors import ClusterError

_RUN_ID = "TORCHELASTIC_RUN_ID"
_RESTART_COUNT = "TORCHELASTIC_RESTART_COUNT"
_SHARED_STORE = "TORCHELASTIC_USE_AGENT_STORE"
_OWN_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


def under_torchrun() -> bool:
    """Whether torchrun started this rank."""
    return _RUN_ID in os.environ


def torchrun_restarts() -> int:
    """How often torchrun has started this node's ranks again; not counted are changes of nodes."""
    return int(os.environ.get(_RESTART_COUNT, "0"))


def require_own_store() -> None:
    """Raise ClusterError where torchrun would keep one store over all restarts.

    By default it does (torch 2.13): ranks that are started again find the addresses of those before
    them, and a node that comes back waits for an address that nobody writes.
    """
    if os.environ.get(_SHARED_STORE) == "True":
        raise ClusterError(
            "recovery.minimum_replicas: torchrun keeps its store over a restart, in which ranks "
            f"that are started again cannot meet; set {_OWN_STORE}=1 for torchrun on every node"
        )
