"""LoRA (arXiv:2106.09685): which linears are adapted, the adapters, and what merging means."""

from trainer.model.lora.adapters import adapters_off

__all__ = ["adapters_off"]
