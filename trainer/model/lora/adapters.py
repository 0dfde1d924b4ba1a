"""Adapters beside megatron-core's linears, at any tensor-parallel layout.

Only the inner activations, `rank` wide, are exchanged between tensor ranks.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from megatron.core.tensor_parallel import (
    ColumnParallelLinear,
    RowParallelLinear,
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
    reduce_from_tensor_model_parallel_region,
    reduce_scatter_to_sequence_parallel_region,
    set_tensor_model_parallel_attributes,
)
from megatron.core.transformer.spec_utils import ModuleSpec
from torch import Tensor
from torch.nn import Module, ModuleDict, Parameter

from trainer.model.initialize import fill_box
from trainer.model.lora.targets import AdapterSize, adapted_parts, is_adapter
from trainer.parallel.sharding import sharded_parameters
from trainer.recipe import Recipe
from trainer.recipe.lora import saved_modules
from trainer.recipe.shape import Linear, block_linears

if TYPE_CHECKING:
    from trainer.model.transformer import LanguageModel


class Adapter(Module):
    """Scale * B A x, of one Hugging Face linear: A is [rank, inputs], B is [outputs, rank].

    A module of its own, whose forward uses both matrices: ZeRO-3 gives a rank the whole of a weight
    only inside the module that holds it. `inputs`, `outputs`: what this rank holds.
    """

    def __init__(self, linear: Any, inputs: int, outputs: int, size: AdapterSize) -> None:
        super().__init__()
        config = linear.config
        make = {"dtype": config.params_dtype, "device": torch.cuda.current_device()}
        self.A = Parameter(torch.empty(size.rank, inputs, **make))
        self.B = Parameter(torch.empty(outputs, size.rank, **make))
        self.scale = size.scale
        self.group = linear.tp_group
        self.sequence_parallel = linear.sequence_parallel


class ColumnAdapter(Adapter):
    """Beside a column-parallel linear: each tensor rank has all of A and its rows of B."""

    def __init__(self, linear: Any, inputs: int, outputs: int, size: AdapterSize) -> None:
        super().__init__(linear, inputs, outputs, size)
        set_tensor_model_parallel_attributes(self.B, True, 0, 1)
        # Under sequence parallelism A sees this rank's part of the sequence only.
        self.partial_gradients = ("A",) if self.sequence_parallel else ()

    def forward(self, x: Tensor, whole: bool = False) -> Tensor:
        """[sequence, batch, hidden], or its share of the sequence -> [sequence, batch, outputs].

        `whole`: each tensor rank has all of it, also under sequence parallelism.
        """
        inner = F.linear(x, self.A)
        if self.sequence_parallel and not whole:
            inner = gather_from_sequence_parallel_region(inner, group=self.group)
        else:
            inner = copy_to_tensor_model_parallel_region(inner, group=self.group)
        return F.linear(inner * self.scale, self.B)


class RowAdapter(Adapter):
    """Beside a row-parallel linear: each tensor rank has its columns of A and all of B."""

    def __init__(self, linear: Any, inputs: int, outputs: int, size: AdapterSize) -> None:
        super().__init__(linear, inputs, outputs, size)
        set_tensor_model_parallel_attributes(self.A, True, 1, 1)
        self.partial_gradients = ("B",) if self.sequence_parallel else ()

    def forward(self, x: Tensor) -> Tensor:
        """[sequence, batch, inputs] -> [sequence, batch, hidden], or its share of the sequence."""
        inner = F.linear(x, self.A)
        if self.sequence_parallel:
            inner = reduce_scatter_to_sequence_parallel_region(inner, group=self.group)
        else:
            inner = reduce_from_tensor_model_parallel_region(inner, group=self.group)
        return F.linear(inner * self.scale, self.B)


class EmbeddingAdapter(Adapter):
    """Beside the embedding: each tensor rank has its tokens' columns of A and all of B.

    `embedding`: what it is beside, which knows how tokens are shared out.
    """

    def __init__(self, embedding: Any, config: Any, size: AdapterSize) -> None:
        Module.__init__(self)
        make = {"dtype": config.params_dtype, "device": torch.cuda.current_device()}
        tokens = embedding.num_embeddings_per_partition
        self.A = Parameter(torch.empty(size.rank, tokens, **make))
        self.B = Parameter(torch.empty(embedding.embedding_dim, size.rank, **make))
        self.scale = size.scale
        set_tensor_model_parallel_attributes(self.A, True, 1, 1)
        self.partial_gradients = ("B",) if embedding.reduce_scatter_embeddings else ()

    def forward(self, tokens: Tensor, look_up: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """int64 [batch, sequence] -> [batch, sequence, hidden], or this rank's share of that.

        `look_up(tokens, table)`: rows of a table [this rank's tokens, rank], as of the embedding.
        """
        return F.linear(look_up(tokens, self.A.t()) * self.scale, self.B)


class AdaptedColumn(ColumnParallelLinear):
    """A column-parallel linear with an adapter for some of the linears that are fused in it."""

    def __init__(
        self,
        *arguments: Any,
        linear: Linear,
        adapted: Mapping[str, AdapterSize],
        **keys: Any,
    ) -> None:
        super().__init__(*arguments, **keys)
        self.linear = linear.of_rank(self.tp_group.size())
        self.adapters_on = True
        sizes = zip(self.linear.parts, self.linear.part_rows, strict=True)
        self.adapters = ModuleDict(
            {
                name: ColumnAdapter(self, self.input_size, self.linear.groups * rows, adapted[name])
                for name, rows in sizes
                if name in adapted
            }
        )

    def forward(
        self,
        input_: Tensor,
        weight: Tensor | None = None,
        runtime_gather_output: bool | None = None,
    ) -> tuple[Tensor, Any]:
        """[sequence, batch, hidden] -> ([sequence, batch, rows of this rank], no bias)."""
        output, bias = super().forward(input_, weight, runtime_gather_output)
        if self.adapters_on:
            output = output + self._additions(input_, output)
        return output, bias

    def _additions(self, input_: Tensor, output: Tensor) -> Tensor:
        """What the adapters add, in the order of our rows; zeros for linears without one."""
        parts = []
        for name, rows in zip(self.linear.parts, self.linear.part_rows, strict=True):
            shape = (*output.shape[:-1], self.linear.groups, rows)
            if name in self.adapters:
                parts.append(self.adapters[name](input_).view(shape))
            else:
                parts.append(output.new_zeros(()).expand(shape))
        return torch.cat(parts, dim=-1).flatten(-2)


class AdaptedRow(RowParallelLinear):
    """A row-parallel linear with an adapter."""

    def __init__(
        self,
        *arguments: Any,
        linear: Linear,
        adapted: Mapping[str, AdapterSize],
        **keys: Any,
    ) -> None:
        super().__init__(*arguments, **keys)
        self.adapters_on = True
        ((name, size),) = adapted.items()
        adapter = RowAdapter(self, self.input_size_per_partition, self.output_size, size)
        self.adapters = ModuleDict({name: adapter})

    def forward(self, input_: Tensor) -> tuple[Tensor, Any]:
        """[sequence, batch, columns of this rank] -> ([sequence, batch, hidden], no bias)."""
        output, bias = super().forward(input_)
        if self.adapters_on:
            for adapter in self.adapters.values():
                output = output + adapter(input_)
        return output, bias


def adapted(recipe: Recipe, layer: int, ours: str, plain: type) -> type | ModuleSpec:
    """What stands for block `layer`'s linear `ours` (Linear.name): `plain`, or with adapters."""
    if recipe.lora is None:
        return plain
    linear = next(linear for linear in block_linears(recipe.model) if linear.name == ours)
    parts = adapted_parts(recipe.lora, layer, linear)
    if not parts:
        return plain
    return ModuleSpec(
        module=AdaptedColumn if issubclass(plain, ColumnParallelLinear) else AdaptedRow,
        params={"linear": linear, "adapted": parts},
    )


@contextmanager
def adapters_off(chunks: list["LanguageModel"]) -> Iterator[None]:
    """Inside, the chunks compute what the frozen base computes, bit for bit."""
    adapted: list[Any] = [
        module for chunk in chunks for module in chunk.modules() if hasattr(module, "adapters_on")
    ]
    before = [module.adapters_on for module in adapted]
    for module in adapted:
        module.adapters_on = False
    try:
        yield
    finally:
        for module, on in zip(adapted, before, strict=True):
            module.adapters_on = on


@torch.no_grad()
def initialize_adapters(chunk: Any, recipe: Recipe) -> None:
    """B is zero, A uniform within 1 / sqrt(inputs) (Kaiming's rule as PEFT applies it), in place.

    Of the embedding A is zero, B standard normal, as PEFT has it. Each follows from the recipe's
    seed, `lora.seed` and its global name, at every layout.
    """
    assert recipe.lora is not None
    seed = f"{recipe.seed}/lora/{recipe.lora.seed}"
    for parameter, sharding in sharded_parameters([chunk]):
        if not is_adapter(sharding.name) or parameter.is_meta:
            continue
        of_embedding = sharding.name.startswith("embedding.")
        if sharding.name.endswith(".A" if of_embedding else ".B"):
            parameter.zero_()
            continue
        for box in sharding.boxes:
            if of_embedding:
                fill_box(box.of(parameter), box, 1.0, seed)
            else:
                bound = 1.0 / math.sqrt(box.global_shape[1])
                fill_box(box.of(parameter), box, bound, seed, _uniform)


def freeze_base(chunk: Any, recipe: Recipe) -> None:
    """Let only the adapters learn, and the modules that train whole.

    The embeddings' output still asks for a gradient, of which nothing is kept: a recomputed block
    and a pipeline stage without adapters pass one on only if their input asks for it.
    """
    assert recipe.lora is not None
    whole = saved_modules(recipe.lora, recipe.model)
    for parameter, sharding in sharded_parameters([chunk]):
        module = sharding.name.rpartition(".")[0]
        parameter.requires_grad_(is_adapter(sharding.name) or module in whole)
    if chunk.pre_process:
        chunk.embedding.register_forward_hook(_ask_for_gradient)


def _ask_for_gradient(_module: Any, _inputs: Any, embedded: Tensor) -> None:
    if torch.is_grad_enabled():
        embedded.requires_grad_()


def _uniform(*shape: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Uniform numbers within [-1, 1)."""
    return torch.rand(*shape, generator=generator, device=device) * 2.0 - 1.0
