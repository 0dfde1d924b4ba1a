"""Runs of the tiny model that count what autograd keeps and what leaves the device."""

from typing import Any

import torch

import kernels.dispatch
import trainer.model.offload
from tests.nested import nested
from tests.parity.training import Curve, train_steps
from trainer.bench.memory import measured_peak
from trainer.data.batch import Batch
from trainer.model.micro_batches import MicroBatchCutter
from trainer.model.recompute import SavedInPlace
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout, leave
from trainer.plan.activations import Device, layer_kept
from trainer.plan.memory import memory
from trainer.recipe import Recipe


def train_moving_all(recipe: Recipe, steps: int) -> Curve:
    """`train_steps`, where offloading takes tensors of any size."""
    trainer.model.offload.SMALLEST = 1
    return train_steps(recipe, steps)


def train_moving_all_on_triton(recipe: Recipe, steps: int) -> Curve:
    """The same, with our kernels in Triton's interpreter."""
    kernels.dispatch.MODE = "triton"
    return train_moving_all(recipe, steps)


def sized(**keys: Any) -> Recipe:
    """A model whose activations outweigh an allocator's odds and ends; keys override."""
    tree: dict[str, Any] = {
        "run": "unused",
        "device": "cpu",
        "steps": 2,
        "sequence_length": 256,
        "model": {
            **{"layers": 4, "hidden": 256, "heads": 8, "kv_heads": 4, "ffn": 704},
            "vocab": 2048,
        },
        "batch": {"sequences": 4, "micro": 4},
        "optimizer": {"lr": 1e-3},
        "zero": {"stage": 0},
    }
    return Recipe.from_keys(nested(tree, keys))


def bytes_kept(recipes: list[Recipe]) -> list[tuple[float, float]]:
    """(bytes of the distinct storages that autograd keeps of the layers, the formula's), each."""
    device: Device = "cuda" if kernels.dispatch.MODE == "triton" else "cpu"
    found = []
    for recipe in recipes:
        predicted = sum(layer_kept(recipe, device).values()) * recipe.model.layers
        found.append((_kept_of_layers(recipe), predicted))
    return found


def bytes_kept_on_triton(recipes: list[Recipe]) -> list[tuple[float, float]]:
    """The same, with our kernels in Triton's interpreter and the formula for GPUs."""
    kernels.dispatch.MODE = "triton"
    return bytes_kept(recipes)


def peaks(recipes: list[Recipe]) -> list[tuple[float, float]]:
    """(the measured peak of a step in bytes, the formula's), for each recipe."""
    found = []
    for recipe in recipes:
        vocab = recipe.model.vocab
        assert vocab is not None
        predicted = memory(recipe, 1, vocab, "cpu").peak
        found.append((measured_peak(recipe, vocab), predicted))
    return found


def _kept_of_layers(recipe: Recipe) -> float:
    """Runs one micro-batch through the layers, and counts what their graph comes to hold."""
    layout = create_layout(recipe)
    try:
        assert recipe.model.vocab is not None
        (chunk,) = build_model(recipe, recipe.model.vocab, layout)
        tokens = torch.zeros((recipe.batch.micro, recipe.sequence_length), dtype=torch.int64)
        positions = torch.arange(recipe.sequence_length).repeat(recipe.batch.micro, 1)
        batch = Batch(tokens, tokens, positions, 0, {})
        micro = next(iter(MicroBatchCutter(recipe, layout).cut(batch).items))
        visible = micro.layout.visible
        visible.mask(torch.float32 if recipe.precision == "fp32" else torch.bfloat16)
        shared = [*micro.layout.rotation, visible.low, visible.high, visible.first, visible.last]
        known = {t.untyped_storage().data_ptr() for t in (*shared, *visible._made.values())}
        known |= {p.untyped_storage().data_ptr() for p in chunk.parameters()}
        hidden = chunk.embedding(micro.tokens, None).detach().requires_grad_()
        counted = _Counted(known)
        with counted:
            for layer in chunk.decoder.layers:
                hidden = layer(hidden, packed_seq_params=micro.layout)[0]
        return float(sum(counted.sizes.values()))
    finally:
        leave()


class _Counted:
    """Counts the storages of all that autograd saves inside, but for those at `known`."""

    def __init__(self, known: set[int]) -> None:
        self.sizes: dict[int, int] = {}
        self._known = known
        self._alive: list[torch.Tensor] = []

    def save(self, tensor: torch.Tensor) -> torch.Tensor:
        """Count the tensor's storage, which stays alive, so that no address repeats."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._known:
            self.sizes[storage.data_ptr()] = storage.nbytes()
            self._alive.append(tensor)
        return tensor

    def __enter__(self) -> None:
        # A linear whose input is recomputed saves its other tensors here.
        SavedInPlace.save = lambda _, tensor: self.save(tensor)  # type: ignore[method-assign]
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self.save, lambda saved: saved)
        self._hooks.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)
