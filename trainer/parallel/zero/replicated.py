"""ZeRO stage 0: every replica holds the whole optimizer state."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

from trainer.parallel.layout import Layout
from trainer.parallel.zero.groups import adamw_options, parameter_groups
from trainer.parallel.zero.outcome import StepOutcome
from trainer.recipe import Recipe

_BUCKET_ELEMENTS = 25_000_000  # gradients summed in one all-reduce: 100 MB in fp32


class ReplicatedAdamW:
    """AdamW with fp32 masters (the weights themselves, where they are fp32) on every replica."""

    def __init__(self, chunks: list[Any], recipe: Recipe, layout: Layout) -> None:
        self._layout = layout
        self._clip = recipe.optimizer.clip
        groups = parameter_groups(chunks, recipe)
        self._parameters: list[Parameter] = [p for group in groups for p in group["params"]]
        self._masters = {p: self._master_of(p) for p in self._parameters}
        for group in groups:
            group["params"] = [self._masters[p] for p in group["params"]]
        fused = layout.device.type == "cuda"
        self._adamw = torch.optim.AdamW(groups, fused=fused, **adamw_options(recipe))
        self._updates = 0

    @staticmethod
    def _master_of(parameter: Parameter) -> Tensor:
        if parameter.dtype == torch.float32:
            return parameter
        return parameter.detach().float().requires_grad_()

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
        skipped = not math.isfinite(norm)
        if not skipped:
            self._apply(learning_rate, norm)
        for parameter in self._parameters:
            parameter.grad = None
        return StepOutcome(grad_norm=norm, skipped=skipped)

    def _global_norm(self) -> float:
        counted = [p.grad for p in self._parameters if _counts(p) and p.grad is not None]
        norms = list(torch._foreach_norm(counted)) if counted else []
        square = torch.stack(norms).square().sum() if norms else torch.zeros(())
        square = square.to(self._layout.device)
        if self._layout.model.size > 1:
            dist.all_reduce(square, group=self._layout.model.group)
        return math.sqrt(square.item())

    def _apply(self, learning_rate: float, norm: float) -> None:
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if 0 < self._clip < norm:
            torch._foreach_mul_(gradients, self._clip / (norm + 1e-6))
        for parameter, master in self._masters.items():
            if master is not parameter:
                master.grad = parameter.grad
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate
        self._adamw.step()
        self._updates += 1
        copies = [(p, m) for p, m in self._masters.items() if m is not p]
        if copies:
            torch._foreach_copy_([p.data for p, _ in copies], [m.data for _, m in copies])
            for _, master in copies:
                master.grad = None

    def gradient(self, parameter: Parameter) -> Tensor:
        """The averaged gradient, fp32."""
        assert parameter.grad is not None
        return parameter.grad

    def weight(self, parameter: Parameter) -> Tensor:
        """The weight itself."""
        return parameter.detach()

    def state(self, parameter: Parameter) -> dict[str, Tensor]:
        """Master and moments; zero moments before the first step."""
        master = self._masters[parameter]
        moments = self._adamw.state.get(master, {})
        zeros = torch.zeros_like(master)
        return {
            "master": master.detach(),
            "exp_avg": moments.get("exp_avg", zeros),
            "exp_avg_sq": moments.get("exp_avg_sq", zeros),
        }

    @torch.no_grad()
    def load(self, parameter: Parameter, weight: Tensor, state: dict[str, Tensor] | None) -> None:
        """Copy the weight in; with `state`, the master and moments too."""
        parameter.copy_(weight)
        master = self._masters[parameter]
        if state is None:
            master.copy_(weight)
            return
        master.copy_(state["master"])
        self._adamw.state[master] = {
            "step": self._step_tensor(),
            "exp_avg": state["exp_avg"].to(master.device).clone(),
            "exp_avg_sq": state["exp_avg_sq"].to(master.device).clone(),
        }

    def _step_tensor(self) -> Tensor:
        device = self._layout.device if self._adamw.defaults["fused"] else "cpu"
        return torch.tensor(float(self._updates), device=device)

    @property
    def updates(self) -> int:
        """Optimizer steps applied so far."""
        return self._updates

    @updates.setter
    def updates(self, count: int) -> None:
        self._updates = count
        for moments in self._adamw.state.values():
            moments["step"] = self._step_tensor()


def _counts(parameter: Parameter) -> bool:
    if getattr(parameter, "ds_pipe_replicated", False):
        return False
    sharded = getattr(parameter, "tensor_model_parallel", False)
    return bool(sharded or getattr(parameter, "model_parallel", False))


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
