"""ZeRO stage 0: every replica holds the whole optimizer state."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

from kernels.adamw import adamw_step
from kernels.grad_norm import clip_coefficient, grad_square_sum
from kernels.tensor_list import TensorPlans
from trainer.parallel.layout import Layout
from trainer.parallel.sharding import sharding_of
from trainer.parallel.zero.adamw import StepOutcome, adamw_options, parameter_groups
from trainer.parallel.zero.average import WeightAverage
from trainer.recipe import Recipe

if TYPE_CHECKING:
    from trainer.parallel.megatron import HiddenStatesModel

_BUCKET_ELEMENTS = 25_000_000  # gradients summed in one all-reduce: 100 MB in fp32


@dataclass
class _State:
    """A parameter's fp32 master, which is the parameter itself where that is fp32, and moments."""

    master: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor

    @classmethod
    def of(cls, parameter: Parameter) -> "_State":
        own = parameter.dtype == torch.float32
        master = parameter if own else parameter.detach().float()
        zeros = torch.zeros_like(master, requires_grad=False)
        return cls(master, zeros, zeros.clone())


class ReplicatedAdamW:
    """AdamW with fp32 masters (the weights themselves, where they are fp32) on every replica."""

    def __init__(
        self, chunks: Sequence["HiddenStatesModel"], recipe: Recipe, layout: Layout
    ) -> None:
        self._layout = layout
        self._clip = recipe.optimizer.clip
        self._options = adamw_options(recipe)
        self._groups = parameter_groups(chunks, recipe)
        self._parameters: list[Parameter] = [p for group in self._groups for p in group["params"]]
        self._states = {p: _State.of(p) for p in self._parameters}
        self._plans = TensorPlans()
        self.weight_average = WeightAverage(recipe.checkpoint.average, layout.device)
        self._averages: dict[Parameter, Tensor] = {}
        if self.weight_average.kept:
            self._averages = {
                p: torch.zeros_like(state.master, requires_grad=False)
                for p, state in self._states.items()
            }
        # On the device, which alone knows whether a step is skipped.
        self._updates = torch.zeros((), dtype=torch.float64, device=layout.device)

    @contextmanager
    def accumulate(self) -> Iterator[None]:
        """Average the gradients over replicas on leaving."""
        yield
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        assert all(gradient.dtype == torch.float32 for gradient in gradients)
        if self._layout.replicas.size > 1:
            for bucket in _buckets(gradients):
                self._average(bucket)

    def _average(self, gradients: list[Tensor]) -> None:
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat, group=self._layout.replicas.group)
        flat /= self._layout.replicas.size
        parts = flat.split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_([g.view(-1) for g in gradients], list(parts))

    @torch.no_grad()
    def step(self, learning_rate: float) -> StepOutcome:
        """Clip by the global norm and apply; a non-finite norm, which all ranks see, skips."""
        norm = self._global_norm()
        self._apply(learning_rate, norm)
        for parameter in self._parameters:
            parameter.grad = None
        return StepOutcome(norm)

    def _global_norm(self) -> Tensor:
        counted = [
            p.grad for p in self._parameters if sharding_of(p).in_norm and p.grad is not None
        ]
        square = torch.zeros((), dtype=torch.float64, device=self._layout.device)
        if counted:
            square = grad_square_sum(counted, plans=self._plans)
        if self._layout.model.size > 1:
            dist.all_reduce(square, group=self._layout.model.group)
        return square.sqrt()

    def _apply(self, learning_rate: float, norm: Tensor) -> None:
        factor = clip_coefficient(norm, self._clip)
        skip = norm.isfinite().logical_not().float()
        update = self._updates + 1
        for group in self._groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            states = [self._states[p] for p in parameters]
            own_masters = all(p.dtype == torch.float32 for p in parameters)
            adamw_step(
                parameters,
                [p.grad for p in parameters],
                [state.exp_avg for state in states],
                [state.exp_avg_sq for state in states],
                masters=None if own_masters else [state.master for state in states],
                **self._options | {"lr": learning_rate},
                weight_decay=group["weight_decay"],
                step=update,
                clip_coefficient=factor,
                skip=skip,
                plans=self._plans,
            )
        self._updates += 1 - skip

    def gradient(self, parameter: Parameter) -> Tensor:
        """The averaged gradient, fp32."""
        assert parameter.grad is not None
        return parameter.grad

    def weight(self, parameter: Parameter) -> Tensor:
        """The weight itself."""
        return parameter.detach()

    def state(self, parameter: Parameter) -> dict[str, Tensor]:
        """Master and moments, and the average if one is kept; zeros before the first step."""
        state = self._states[parameter]
        found = {
            "master": state.master.detach(),
            "exp_avg": state.exp_avg,
            "exp_avg_sq": state.exp_avg_sq,
        }
        return found | ({"average": self._averages[parameter]} if self._averages else {})

    @torch.no_grad()
    def load(self, parameter: Parameter, weight: Tensor, state: dict[str, Tensor] | None) -> None:
        """Copy the weight in; with `state`, the master and moments too."""
        parameter.copy_(weight)
        if not parameter.requires_grad:
            return
        own = self._states[parameter]
        own.master.copy_(weight if state is None else state["master"])
        if state is not None:
            own.exp_avg.copy_(state["exp_avg"])
            own.exp_avg_sq.copy_(state["exp_avg_sq"])
            if "average" in state:
                self._averages[parameter].copy_(state["average"])

    def average(self, outcome: StepOutcome) -> None:
        """Let the masters enter; a skipped step is known on the device, for which nobody waits."""
        masters = [state.master for state in self._states.values()]
        self.weight_average.enter(list(self._averages.values()), masters, outcome)

    @property
    def updates(self) -> int:
        """Optimizer steps applied so far; waits for the device."""
        return int(self._updates.item())

    @updates.setter
    def updates(self, count: int) -> None:
        self._updates.fill_(count)


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    elements = 0
    for gradient in gradients:
        bucket.append(gradient)
        elements += gradient.numel()
        if elements >= _BUCKET_ELEMENTS:
            yield bucket
            bucket, elements = [], 0
    if bucket:
        yield bucket
