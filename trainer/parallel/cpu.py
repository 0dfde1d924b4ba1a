"""megatron-core on the CPU: the one module that maps its CUDA calls to CPU equivalents.

megatron-core asks CUDA for the current device in some sixty places, tracks CUDA generator states,
and its pipeline schedules allocate on "cuda". Each of these has a direct CPU equivalent; neither
parallelism nor the mathematics changes.
"""

import logging
import os
import types
from typing import Any

import torch


class _TorchOnCpu(types.ModuleType):
    """A view of torch for one module: tensors asked for on "cuda" are made on the CPU, unpinned."""

    _factories = frozenset({"zeros", "tensor", "empty"})

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(torch, name)
        if name not in self._factories:
            return attribute

        def make(*arguments: Any, **options: Any) -> torch.Tensor:
            options.pop("pin_memory", None)
            if options.get("device") == "cuda":
                options["device"] = "cpu"
            tensor: torch.Tensor = attribute(*arguments, **options)
            return tensor

        return make


def use_cpu() -> None:
    """Give megatron-core and DeepSpeed a CPU to run on; call before either is imported."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    torch.cuda.current_device = lambda: torch.device("cpu")  # type: ignore[assignment,return-value]
    torch.cuda.synchronize = lambda *_, **__: None
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]

    import trainer.parallel.lazy_compile  # noqa: F401  (before megatron-core)

    # isort: split
    from megatron.core.models.common.embeddings import rope_utils
    from megatron.core.pipeline_parallel import schedules

    schedules.torch = rope_utils.torch = _TorchOnCpu("torch_on_cpu")
    _keep_cpu_generators()


def _keep_cpu_generators() -> None:
    from megatron.core.tensor_parallel import random

    def add(self: Any, name: str, seed: int) -> None:
        self._is_initialized = True
        self.seeds_.add(seed)
        generator = torch.Generator().manual_seed(seed)
        self.states_[name] = generator.get_state()

    random._get_cuda_rng_state = lambda *_, **__: torch.get_rng_state()
    random._set_cuda_rng_state = lambda state, *_, **__: torch.set_rng_state(state)
    random.CudaRNGStatesTracker.add = add
    # It warns at every recomputed block that the CPU's generator moved, which here is the point.
    logging.getLogger(random.__name__).setLevel(logging.ERROR)
