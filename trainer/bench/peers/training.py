"""A step of any peer: micro-batches, clipping, AdamW, at the precision that ours keeps."""

import torch
from torch import Tensor, nn

from trainer.bench.bare import BareRows, accumulate_gradients, bare_optimizer
from trainer.bench.peers.peer import Built
from trainer.recipe import Recipe

_PRECISION = {
    "bf16": "bf16 weights and activations; fp32 masters, gradient sums, moments, loss",
    "fp32": "fp32",
}


class Training:
    """A peer's model in training; `given` says in words what every peer gets here.

    In bf16 the fp32 weights become masters, and the model computes with bf16 copies of them whose
    gradients add up in fp32: what ours keeps, and cheaper than autocast, which casts every weight
    at each micro-batch.
    """

    def __init__(self, built: Built, recipe: Recipe) -> None:
        self.given = {
            "optimizer": "torch.optim.AdamW(fused), foreach clipping and copies",
            "precision": _PRECISION[recipe.precision],
        }
        self._loss_sum = built.loss_sum
        self._recipe = recipe
        # A tied weight comes once.
        named = list(built.model.named_parameters())
        self.parameters = sum(weight.numel() for _, weight in named)
        self._weights: list[nn.Parameter] = [weight for _, weight in named]
        self._masters = self._weights
        if recipe.precision == "bf16":
            self._masters = [nn.Parameter(weight.data) for weight in self._weights]
            for weight in self._weights:
                weight.data = weight.data.bfloat16()
                weight.grad_dtype = torch.float32
        names = [name for name, _ in named]
        self._optimizer = bare_optimizer(zip(names, self._masters, strict=True), recipe.optimizer)

    def step(self, rows: BareRows, lr: float) -> Tensor:
        """One optimizer step on rows [global batch, sequence]; the loss, nats a token, fp32 [].

        The host does not wait for the device.
        """
        total = accumulate_gradients(
            lambda tokens, labels, _: self._loss_sum(tokens, labels), rows, self._recipe.batch.micro
        )
        self._update(lr)
        return total

    def _update(self, lr: float) -> None:
        separate = self._masters is not self._weights
        if separate:
            for master, weight in zip(self._masters, self._weights, strict=True):
                master.grad, weight.grad = weight.grad, None
        if self._recipe.optimizer.clip:
            nn.utils.clip_grad_norm_(self._masters, self._recipe.optimizer.clip)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if separate:
            with torch.no_grad():
                torch._foreach_copy_([*self._weights], [*self._masters])
