"""`lyceum demo`: the whole chain on this machine's own documentation, told as a story."""

from trainer.demo.story import run_demo

__all__ = ["run_demo"]
