"""Our fused AdamW as the torch optimizer that DeepSpeed asks for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Parameter

from kernels.adamw import adamw_step
from kernels.tensor_list import TensorPlans
from trainer.recipe import Recipe

if TYPE_CHECKING:
    from trainer.parallel.megatron import HiddenStatesModel


MOMENTS = ("exp_avg", "exp_avg_sq")
"""Adam's, by their names in a parameter's state."""


class FusedAdamW(torch.optim.Optimizer):
    """torch.optim.AdamW's groups, options and state, with one launch a group.

    A parameter's `step` is a CPU tensor: it is read at every step, which must not wait for a GPU.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, betas: tuple[float, float], eps: float
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self._plans = TensorPlans()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Apply the gradients; parameters without one are left alone."""
        assert closure is None
        for group in self.param_groups:
            by_step: dict[int, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_step.setdefault(self._advance(parameter), []).append(parameter)
            for step, parameters in by_step.items():
                states = [self.state[p] for p in parameters]
                adamw_step(
                    parameters,
                    [p.grad for p in parameters if p.grad is not None],
                    [state["exp_avg"] for state in states],
                    [state["exp_avg_sq"] for state in states],
                    lr=group["lr"],
                    betas=group["betas"],
                    eps=group["eps"],
                    weight_decay=group["weight_decay"],
                    step=step,
                    plans=self._plans,
                )

    def _advance(self, parameter: Tensor) -> int:
        """The number of the parameter's update that is due, from 1."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        return int(state["step"].item())


def parameter_groups(chunks: Sequence["HiddenStatesModel"], recipe: Recipe) -> list[dict[str, Any]]:
    """Up to two groups, with `weight_decay` as the recipe says and without; empty ones left out.

    Frozen parameters are in none.
    """
    decayed: list[Parameter] = []
    free: list[Parameter] = []
    for chunk in chunks:
        for name, parameter in chunk.named_parameters():
            if not parameter.requires_grad:
                continue
            (decayed if _decays(name, parameter, chunk, recipe) else free).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": recipe.optimizer.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _decays(name: str, parameter: Parameter, chunk: Any, recipe: Recipe) -> bool:
    tied = chunk.share_embeddings_and_output_weights
    if name.endswith("word_embeddings.weight") or (tied and name == "output_layer.weight"):
        return recipe.optimizer.decay_embeddings
    if name.endswith(".bias"):
        return recipe.optimizer.decay_biases
    return parameter.dim() > 1 or recipe.optimizer.decay_norms


def adamw_options(recipe: Recipe) -> dict[str, Any]:
    """AdamW's options (Loshchilov & Hutter 2019), decoupled decay set a group."""
    section = recipe.optimizer
    return {"lr": section.lr, "betas": tuple(section.betas), "eps": section.eps}


@dataclass(frozen=True)
class StepOutcome:
    """`grad_norm`: global L2 norm before clipping, 0-dim; not finite where the step was skipped.

    A tensor, so that reading it, which waits for the device, is a choice.
    """

    grad_norm: Tensor
