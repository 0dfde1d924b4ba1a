"""All uses of megatron-core's global state: version, process groups, configuration."""

import importlib.metadata
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

import trainer.parallel.lazy_compile  # noqa: F401  (before megatron-core)

# isort: split
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed
from megatron.core.transformer.transformer_config import TransformerConfig
from torch.nn import functional

from trainer.errors import RecipeError
from trainer.parallel.layout import Axis, Layout
from trainer.recipe import Recipe

# It warns that an MLP of ours is not one that it knows, once a layer.
logging.getLogger("megatron.core.transformer.transformer_layer").setLevel(logging.ERROR)

TESTED_VERSIONS = ("0.16.0", "0.17.0")  # from, up to and without


def check_version() -> None:
    """Refuse a megatron-core outside the tested range: its private parts move between releases."""
    version = importlib.metadata.version("megatron-core")
    numbers = tuple(int(part) for part in version.split(".")[:2])
    lowest, below = (tuple(int(part) for part in v.split(".")[:2]) for v in TESTED_VERSIONS)
    if not lowest <= numbers < below:
        raise RecipeError(
            f"megatron-core {version} is installed; tested is {TESTED_VERSIONS[0]} and later, "
            f"below {TESTED_VERSIONS[1]}: install one of these"
        )


def form_groups(recipe: Recipe, device: torch.device) -> Layout:
    """Form the process groups of the recipe's layout; collective. Returns this rank's Layout.

    Raises RecipeError for a megatron-core that is not supported.
    """
    check_version()
    sizes = recipe.parallel
    if parallel_state.is_initialized():
        parallel_state.destroy_model_parallel()
    parallel_state.initialize_model_parallel(
        sizes.tensor,
        sizes.pipeline,
        virtual_pipeline_model_parallel_size=sizes.virtual if sizes.virtual > 1 else None,
        context_parallel_size=sizes.context,
        create_gloo_process_groups=False,
    )
    model_parallel_cuda_manual_seed(recipe.seed)
    return Layout(
        device=device,
        rank=dist.get_rank(),
        world_size=dist.get_world_size(),
        tensor=_axis(parallel_state.get_tensor_model_parallel_group()),
        context=_axis(parallel_state.get_context_parallel_group()),
        data=_axis(parallel_state.get_data_parallel_group()),
        pipeline=_axis(parallel_state.get_pipeline_model_parallel_group()),
        replicas=_axis(parallel_state.get_data_parallel_group(with_context_parallel=True)),
        model=_axis(parallel_state.get_model_parallel_group()),
        hosts=_hosts(),
    )


def dissolve_groups() -> None:
    """Destroy megatron-core's groups, so that this process can form another layout."""
    if parallel_state.is_initialized():
        parallel_state.destroy_model_parallel()


def _hosts() -> dist.ProcessGroup:
    """All ranks over gloo: NCCL exchanges device memory only."""
    whole = dist.group.WORLD
    assert whole is not None, "the ranks have met"
    return whole if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")


def _axis(group: dist.ProcessGroup) -> Axis:
    return Axis(rank=dist.get_rank(group), size=dist.get_world_size(group), group=group)


def embedding_group() -> dist.ProcessGroup | None:
    """The group of the first and last stage, which hold copies of tied embeddings; or None."""
    if parallel_state.is_rank_in_embedding_group():
        group: dist.ProcessGroup = parallel_state.get_embedding_group()
        return group
    return None


def transformer_config(recipe: Recipe, layout: Layout) -> TransformerConfig:
    """megatron-core's configuration of this recipe's model.

    Communication between stages follows what was measured on gloo: batched sends give a wrong
    gradient under the interleaved schedule there, and freeing stage outputs early races with
    overlapped sends. Initialisation is ours (trainer.model.initialize), the same at every layout.
    """
    model, sizes = recipe.model, recipe.parallel
    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    interleaved = sizes.virtual > 1
    on_gloo = layout.device.type == "cpu"
    return TransformerConfig(
        num_layers=model.layers,
        hidden_size=model.hidden,
        num_attention_heads=model.heads,
        num_query_groups=model.kv_heads or model.heads,
        kv_channels=model.head_size,
        ffn_hidden_size=model.ffn,
        gated_linear_unit=True,
        activation_func=functional.silu if model.activation == "swiglu" else functional.gelu,
        add_bias_linear=False,
        add_qkv_bias=model.qkv_bias,
        normalization="RMSNorm" if model.norm == "rms" else "LayerNorm",
        layernorm_zero_centered_gamma=model.zero_centered_norms,
        layernorm_epsilon=model.norm_eps,
        qk_layernorm=model.qk_norm,
        rotary_interleaved=model.rope_interleaved,
        softmax_scale=model.attention_scale,
        softmax_type="off-by-one" if model.softmax == "off_by_one" else "vanilla",
        attention_dropout=0.0,
        hidden_dropout=0.0,
        init_method=_leave_alone,
        output_layer_init_method=_leave_alone,
        embedding_init_method=_leave_alone,
        params_dtype=dtype,
        pipeline_dtype=dtype,
        bf16=dtype == torch.bfloat16,
        tensor_model_parallel_size=sizes.tensor,
        pipeline_model_parallel_size=sizes.pipeline,
        virtual_pipeline_model_parallel_size=sizes.virtual if interleaved else None,
        context_parallel_size=sizes.context,
        sequence_parallel=sizes.sequence,
        overlap_p2p_comm=interleaved,
        batch_p2p_comm=not interleaved and not on_gloo,
        batch_p2p_sync=False,  # of old releases of PyTorch: it held the host up at each exchange
        deallocate_pipeline_outputs=not on_gloo,
        gradient_accumulation_fusion=False,
        bias_dropout_fusion=False,
        calculate_per_token_loss=True,
        **_recompute(recipe.recomputed),
    )


def _leave_alone(weight: torch.Tensor) -> torch.Tensor:
    return weight


def _recompute(parts: frozenset[str]) -> dict[str, Any]:
    """megatron-core's settings for the parts it recomputes; our own layers handle the others."""
    names = {"attention": "core_attn", "mlp": "mlp"}
    modules = [name for part, name in names.items() if part in parts]
    if not modules:
        return {}
    return {"recompute_granularity": "selective", "recompute_modules": modules}


class HiddenStatesModel(GPTModel):
    """GPTModel without its output step: a subclass turns hidden states into logits or losses."""

    def hidden_states(self, tokens: torch.Tensor, packed_seq_params: Any) -> torch.Tensor:
        """[sequence / context, batch, hidden] in the parameters' dtype, after this chunk's layers.

        `tokens`: int64 [batch, sequence / context]. Under sequence parallelism the result is this
        tensor rank's slice of the sequence. `packed_seq_params` reaches every layer unchanged.
        """
        hidden: torch.Tensor = super().forward(
            tokens, None, None, packed_seq_params=packed_seq_params
        )
        return hidden

    def _postprocess(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return hidden_states


@contextmanager
def evaluating(chunks: Sequence[HiddenStatesModel]) -> Iterator[None]:
    """Inside, the chunks are in evaluation mode; each one's mode is restored afterwards."""
    before = [chunk for chunk in chunks if chunk.training]
    for chunk in before:
        chunk.eval()
    try:
        yield
    finally:
        for chunk in before:
            chunk.train()
