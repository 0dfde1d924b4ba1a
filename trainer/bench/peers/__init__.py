"""Other people's ways to train the same model, each in a process of its own, beside our loop.

A module a peer; what they share is how a step is made of micro-batches (`training`), so that they
differ in the model and its kernels alone. None of it was run on a GPU yet.
"""

from importlib import import_module

from trainer.bench.peers.peer import Peer

MODULES = {
    "bare-compiled": "compiled",
    "transformers-liger": "liger",
    "torchtitan": "titan",
    "megatron-local": "megatron_local",
}
"""The module of each peer that runs in a process of its own; `bare` runs beside ours, in pairs."""


def peer(name: str) -> Peer:
    """The peer of this name, out of MODULES; the package that it is about is not imported yet."""
    found: Peer = import_module(f"{__name__}.{MODULES[name]}").PEER
    return found
