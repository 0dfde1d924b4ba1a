"""ZeRO stages 1 to 3 through a DeepSpeed engine around megatron-core's schedule."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Module, ModuleList, Parameter

from trainer.errors import RecipeError
from trainer.parallel.layout import Layout
from trainer.parallel.zero.adamw import (
    MOMENTS,
    FusedAdamW,
    StepOutcome,
    adamw_options,
    parameter_groups,
)
from trainer.parallel.zero.average import WeightAverage
from trainer.parallel.zero.deepspeed import ModelParallelUnit, deepspeed_config, prepare_deepspeed
from trainer.recipe import Recipe

if TYPE_CHECKING:
    from trainer.parallel.megatron import HiddenStatesModel


class _Chunks(Module):
    """The model chunks as the one module that an engine wants; the schedule calls them itself."""

    def __init__(self, chunks: Sequence["HiddenStatesModel"]) -> None:
        super().__init__()
        self.chunks = ModuleList(chunks)


class ShardedAdamW:
    """AdamW whose masters and moments are sharded over replicas; stage 3 shards the weights too.

    Gradients of all micro-batches are kept whole on a rank until the step, then reduced once:
    stages 2 and 3 promise sharded optimizer state (and weights), not sharded gradients.
    """

    def __init__(
        self, chunks: Sequence["HiddenStatesModel"], recipe: Recipe, layout: Layout
    ) -> None:
        _check_learning(chunks, layout)
        prepare_deepspeed()
        import deepspeed

        self._stage = recipe.zero.stage
        self._layout = layout
        adamw = FusedAdamW(parameter_groups(chunks, recipe), **adamw_options(recipe))
        engine, zero, _, _ = deepspeed.initialize(
            model=_Chunks(chunks),
            optimizer=adamw,
            mpu=ModelParallelUnit(layout),
            config=deepspeed_config(recipe, layout),
            dist_init_required=False,
        )
        self._engine = engine
        self._zero = zero
        self._updates = 0
        self.weight_average = WeightAverage(recipe.checkpoint.average, "cpu")
        self._kept = (*MOMENTS, "average") if self.weight_average.kept else MOMENTS
        self._parameters = [p for chunk in chunks for p in chunk.parameters()]
        self._check_precision()
        self._prepare_state()

    def _partitions(self) -> list[Tensor]:
        """This rank's flat fp32 masters, one a parameter group (stage 3: a sub-group)."""
        if self._stage == 3:
            return list(self._zero.fp32_partitioned_groups_flat)
        return list(self._zero.single_partition_of_fp32_groups)

    def _check_precision(self) -> None:
        """Refuse a stage that would keep masters or gradients in less than fp32.

        trainer/README.md, D10.
        """
        kept = {partition.dtype for partition in self._partitions()}
        kept.add(self._zero.gradient_accumulation_dtype)
        if kept != {torch.float32}:
            raise RecipeError(
                f"zero.stage={self._stage} keeps masters or gradients as {kept} with this "
                "DeepSpeed; use another zero.stage"
            )

    def _prepare_state(self) -> None:
        """Make Adam's moments now, as zeros, so that a checkpoint can be saved or loaded.

        The average is one state more, which DeepSpeed shards and gathers as it does the moments.
        """
        adamw = self._zero.optimizer
        for partition in self._partitions():
            zeros = {key: torch.zeros_like(partition) for key in self._kept}
            adamw.state[partition] = {"step": self._step_tensor(), **zeros}
        if self._stage != 3:
            self._zero._lazy_init_hp_params_optimizer_state()

    def _step_tensor(self) -> Tensor:
        return torch.tensor(float(self._updates))

    @contextmanager
    def accumulate(self) -> Iterator[None]:
        """Keep every micro-batch's gradients local, then reduce them once on leaving."""
        with self._engine.coalesce_grad_reduction():
            try:
                yield
            except BaseException:
                self._reduce_nothing()
                raise
            kept = {p.grad.dtype for p in self._parameters if p.grad is not None}
        reduced = {gradient.dtype for group in self._averaged() for gradient in group}
        assert kept | reduced == {torch.float32}, "gradients in less than fp32 (D10)"

    def _reduce_nothing(self) -> None:
        """Let this rank fail by itself: DeepSpeed reduces also while an exception leaves its block,
        and would meet the other ranks in another collective than theirs.
        """
        self._engine._flush_coalesced_reduction_zero12 = lambda _optimizer: None
        self._engine._flush_coalesced_reduction_zero3 = lambda _optimizer: None

    def _averaged(self) -> list[list[Tensor]]:
        """This rank's parts of the averaged gradients, a parameter group (stage 3: sub-group)."""
        groups = self._zero.averaged_gradients.values()
        return [list(group) for group in groups if group is not None]

    def step(self, learning_rate: float) -> StepOutcome:
        """DeepSpeed clips and applies; it skips on all ranks where the norm is not finite.

        It waits for the device to know that.
        """
        for group in self._zero.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()
        skipped = bool(self._zero.overflow)
        if not skipped:
            self._updates += 1
        norm = float(self._engine.get_global_grad_norm())
        return StepOutcome(torch.tensor(math.nan if skipped else norm, dtype=torch.float64))

    def gradient(self, parameter: Parameter) -> Tensor:
        """The averaged fp32 gradient, gathered from the replicas' partitions."""
        from deepspeed.utils import safe_get_full_grad

        gradient: Tensor = safe_get_full_grad(parameter)
        return gradient

    def weight(self, parameter: Parameter) -> Tensor:
        """The weight; under stage 3 gathered from the masters, to which it is equal."""
        if self._stage != 3:
            return parameter.detach()
        if not parameter.requires_grad:
            import deepspeed

            with deepspeed.zero.GatheredParameters([parameter]):
                return parameter.detach().clone()
        from deepspeed.utils import safe_get_full_fp32_param

        whole: Tensor = safe_get_full_fp32_param(parameter)
        return whole.detach().to(parameter.dtype)

    def state(self, parameter: Parameter) -> dict[str, Tensor]:
        """Master, moments and any average, gathered from the replicas' partitions."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        found = {"master": safe_get_full_fp32_param(parameter).detach()}
        for key in self._kept:
            found[key] = safe_get_full_optimizer_state(parameter, key).detach()
        return found

    @torch.no_grad()
    def load(self, parameter: Parameter, weight: Tensor, state: dict[str, Tensor] | None) -> None:
        """Scatter a weight and its state into this rank's partitions."""
        import deepspeed
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        if parameter.requires_grad:
            master = weight.float() if state is None else state["master"]
            safe_set_full_fp32_param(parameter, master.to(self._layout.device))
        for key in self._kept if state is not None else ():
            if state is not None and key in state:
                whole = state[key].to(self._layout.device)
                safe_set_full_optimizer_state(parameter, whole, key)
        if self._stage != 3:
            parameter.copy_(weight)
            return
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
            parameter.copy_(weight)

    def average(self, outcome: StepOutcome) -> None:
        """Let this rank's part of the masters enter its part of the average."""
        masters = self._partitions()
        averages = [self._zero.optimizer.state[master]["average"] for master in masters]
        self.weight_average.enter(averages, masters, outcome)

    @property
    def updates(self) -> int:
        """Optimizer steps applied so far."""
        return self._updates

    @updates.setter
    def updates(self, count: int) -> None:
        self._updates = count
        for moments in self._zero.optimizer.state.values():
            moments["step"] = self._step_tensor()


def _check_learning(chunks: Sequence["HiddenStatesModel"], layout: Layout) -> None:
    """Raise RecipeError, on all ranks, where one has nothing to learn: DeepSpeed cannot start."""
    learning = any(p.requires_grad for chunk in chunks for p in chunk.parameters())
    least = torch.tensor(int(learning), device=layout.device)
    dist.all_reduce(least, op=dist.ReduceOp.MIN)
    if not least:
        raise RecipeError(
            "lora.targets: leave a pipeline stage without adapters, which zero.stage above 0 cannot"
            " train; use zero.stage=0, or add linear layers of that stage"
        )
