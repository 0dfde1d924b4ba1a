"""What DeepSpeed asks for: the groups it should use and its configuration."""

import logging
import os
from typing import Any

from trainer.parallel.layout import Layout
from trainer.recipe import Recipe


class ModelParallelUnit:
    """The groups of a layout under the names that DeepSpeed calls.

    Replicas include context-parallel ranks: they hold the same weights and see other tokens.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def get_data_parallel_group(self) -> Any:
        """Ranks that average gradients and share out optimizer state."""
        return self._layout.replicas.group

    def get_data_parallel_world_size(self) -> int:
        """How many they are."""
        return self._layout.replicas.size

    def get_data_parallel_rank(self) -> int:
        """This rank among them."""
        return self._layout.replicas.rank

    def get_model_parallel_group(self) -> Any:
        """Ranks that make up one copy of the model: tensor times pipeline."""
        return self._layout.model.group

    def get_model_parallel_world_size(self) -> int:
        """How many they are."""
        return self._layout.model.size

    def get_model_parallel_rank(self) -> int:
        """This rank among them."""
        return self._layout.model.rank

    def get_tensor_model_parallel_group(self) -> Any:
        """Ranks that share out each matrix."""
        return self._layout.tensor.group

    def get_tensor_model_parallel_world_size(self) -> int:
        """How many they are."""
        return self._layout.tensor.size

    def get_tensor_model_parallel_rank(self) -> int:
        """This rank among them."""
        return self._layout.tensor.rank


def deepspeed_config(recipe: Recipe, layout: Layout) -> dict[str, Any]:
    """DeepSpeed's JSON for this recipe.

    bf16 weights: gradients arrive in fp32 (the parameters' grad_dtype) and must stay so through
    buckets, reduction and partitions, which needs fp32 communication and no contiguous bf16 bucket.
    DeepSpeed runs bf16 stage 1 in another optimizer, which knows no coalesced reduction; its stage
    2 code shards the same state, so stage 1 runs as stage 2 there.
    """
    bf16 = recipe.precision == "bf16"
    stage = 2 if bf16 and recipe.zero.stage == 1 else recipe.zero.stage
    zero: dict[str, Any] = {
        "stage": stage,
        "overlap_comm": False,
        "contiguous_gradients": not bf16,
        "reduce_scatter": stage == 3 or not bf16,
        "reduce_bucket_size": 50_000_000,
        "allgather_bucket_size": 50_000_000,
    }
    if stage == 3:
        zero["stage3_param_persistence_threshold"] = 0
        zero["stage3_prefetch_bucket_size"] = 50_000_000
    if recipe.zero.offload == "optimizer":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": recipe.batch.sequences // layout.data.size,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": recipe.optimizer.clip,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "communication_data_type": "fp32",
        "steps_per_print": 10**12,
    }
    config["train_batch_size"] = config["train_micro_batch_size_per_gpu"] * layout.replicas.size
    if bf16:
        config["bf16"] = {"enabled": True, "check_grad_overflow": True}
        config["data_types"] = {"grad_accum_dtype": "fp32"}
    return config


def prepare_deepspeed() -> None:
    """Keep DeepSpeed's chatter out of the run's output, and its C++ build out of the start.

    On the CPU it would compile a shared-memory operator that only its inference uses.
    """
    os.environ.setdefault("DS_LOG_LEVEL", "WARNING")
    os.environ.setdefault("LOCAL_RANK", "0")  # it refuses to start without, alone too
    import deepspeed
    from deepspeed.utils import logger

    logger.setLevel(logging.ERROR)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def load_whole() -> None:
    """Import also what is left until there is an optimizer: DeepSpeed's Muon, and TorchDynamo."""
    prepare_deepspeed()

    import torch._dynamo  # noqa: F401  (its first call would import it)

    from trainer.parallel.lazy_compile import compiling_later

    with compiling_later():
        import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401
