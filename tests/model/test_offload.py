"""Activations that wait in host memory come back as they were."""

from typing import Any

import pytest
import torch

import trainer.model.offload
from tests.model.remaking import train_moving_all
from tests.model.test_recompute import assert_same
from tests.parity.ranks import on_ranks
from tests.parity.training import recipe_of, train_steps
from trainer.model.offload import IN_FLIGHT, Offload

CASES: list[tuple[int, dict[str, Any]]] = [
    (1, {}),
    (1, {"recompute": "full"}),
    (1, {"recompute": ["norms", "swiglu", "attention"]}),
    (2, {"parallel__tensor": 2, "parallel__sequence": True, "recompute": ["norms"]}),
    (2, {"parallel__pipeline": 2, "recompute": ["swiglu"]}),
    (2, {"zero__stage": 3, "recompute": ["norms"]}),
]


@pytest.mark.parametrize(("ranks", "keys"), CASES, ids=str)
def test_offloaded_activations_change_no_bit(ranks: int, keys: dict[str, Any]) -> None:
    """Would catch a view put together wrongly, or another micro-batch's activations."""
    moving = recipe_of(offload="activations", **keys)
    both = (
        on_ranks(ranks, train_steps, recipe_of(**keys), 2),
        on_ranks(ranks, train_moving_all, moving, 2),
    )
    for plain, moved in zip(*both, strict=True):
        assert_same(moved, plain)


class Square(torch.nn.Module):
    """A layer that keeps its input."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.layer_number = number
        self.weight = torch.nn.Parameter(torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x^2 * weight."""
        return x * x * self.weight


def test_what_has_left_is_read_from_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch copies that are made and never used: a change on the host must be seen."""
    monkeypatch.setattr(trainer.model.offload, "SMALLEST", 1)
    layers = [Square(number) for number in range(1, 6)]
    for spoiled in (False, True):
        offload, held = Offload(), []
        x = torch.full((8,), 1.5, requires_grad=True)
        y = x
        for layer in layers:
            with offload.layer(layer, ()) as kept:
                y = layer(y)
            held.append(list(kept._alive()))
        gone = [all(waiting.there is None for waiting in waits) for waits in held]
        assert gone == [True] * (5 - IN_FLIGHT) + [False] * IN_FLIGHT
        if spoiled:
            for waiting in held[0]:
                assert waiting.host is not None
                waiting.host.zero_()
        del held
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert bool((gradient == 0).all()) == spoiled


def test_weights_and_what_layers_share_stay() -> None:
    """Would catch the rotation's table copied once a layer, or weights taken for activations."""
    layer, shared = Square(1), torch.ones(8)
    x = torch.ones(8, requires_grad=True)
    with Offload().layer(layer, (shared, [{"more": shared}])) as store:
        result = layer(x) * shared
        assert store.save(shared) is shared
        assert store.load(store.save(layer.weight)).data_ptr() == layer.weight.data_ptr()
    assert result.requires_grad
