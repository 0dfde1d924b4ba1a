"""The optimizer of a run: replicated here (stage 0), sharded through DeepSpeed (stages 1 to 3)."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from torch import Tensor
from torch.nn import Parameter

from trainer.parallel.layout import Layout
from trainer.parallel.zero.adamw import MOMENTS, StepOutcome
from trainer.parallel.zero.average import WeightAverage
from trainer.recipe import Recipe

if TYPE_CHECKING:
    from trainer.parallel.megatron import HiddenStatesModel

__all__ = ["MOMENTS", "Optimizer", "StepOutcome", "create_optimizer"]


class Optimizer(Protocol):
    """What the loop needs of an optimizer, whatever its stage.

    `weight_average`: what `average` lets weights enter; it counts how many times they did.
    """

    weight_average: WeightAverage

    def accumulate(self) -> AbstractContextManager[None]:
        """Inside: run the schedule, finalize gradients; replicas average them on leaving."""

    def step(self, learning_rate: float) -> StepOutcome:
        """Clip and apply the gradients, or skip on all ranks: their norm is not finite."""

    def gradient(self, parameter: Parameter) -> Tensor:
        """The averaged fp32 gradient in the parameter's full shape, between accumulate and step."""

    def weight(self, parameter: Parameter) -> Tensor:
        """The weight in its own dtype and full shape; collective over replicas."""

    def state(self, parameter: Parameter) -> dict[str, Tensor]:
        """fp32 `master`, `exp_avg`, `exp_avg_sq` in the full shape; collective over replicas.

        And `average`, where the recipe keeps one. Of parameters that learn; frozen ones have no
        state.
        """

    def load(self, parameter: Parameter, weight: Tensor, state: dict[str, Tensor] | None) -> None:
        """Put a weight, and unless None its optimizer state, in place; the inverse of the above.

        `state` is None for frozen parameters; it may lack `average`, which then stays as it is.
        """

    def average(self, outcome: StepOutcome) -> None:
        """Let the weights after a step enter their average, where the step was applied."""

    @property
    def updates(self) -> int:
        """Optimizer steps applied so far (skipped ones are not); may wait for the device."""

    @updates.setter
    def updates(self, count: int) -> None: ...


def create_optimizer(
    chunks: Sequence["HiddenStatesModel"], recipe: Recipe, layout: Layout
) -> Optimizer:
    """AdamW over the chunks' parameters, sharded as `Recipe.sharding` says."""
    if recipe.sharding(layout.world_size) == 0:
        from trainer.parallel.zero.replicated import ReplicatedAdamW

        return ReplicatedAdamW(chunks, recipe, layout)
    from trainer.parallel.zero.sharded import ShardedAdamW

    return ShardedAdamW(chunks, recipe, layout)
