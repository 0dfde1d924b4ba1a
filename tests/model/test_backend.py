"""Which attention back end a run uses: measured once, the same on every rank and after a resume."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from kernels.attention import Choices
from tests.parity.training import recipe_of
from trainer.errors import RecipeError
from trainer.model.backend import choose_backend, read_choices
from trainer.parallel.layout import Axis, Layout


def layout_of(**sizes: int) -> Layout:
    """The first rank of a layout, on the CPU."""
    names = ("tensor", "context", "data", "pipeline", "replicas", "model")
    axes = {name: Axis(0, sizes.get(name, 1), cast(Any, None)) for name in names}
    return Layout(torch.device("cpu"), rank=0, world_size=1, hosts=cast(Any, None), **axes)


class Clock:
    """Says of each call that it took longer than the one before; the first one is the fastest."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, call: Callable[[], object]) -> float:
        self.calls += 1
        return float(self.calls)


@pytest.mark.parametrize("context", [1, 2])
def test_the_run_measures_its_own_shapes_once(context: int) -> None:
    """Catches a choice for other shapes than the run's, and one made again at each resume."""
    recipe = recipe_of(kernels__deterministic=False, parallel__tensor=2, parallel__context=context)
    layout = layout_of(tensor=2, context=context)
    clock = Clock()
    chosen = choose_backend(recipe, layout, {}, Choices(clock))
    assert clock.calls == 2, "triton and sdpa"
    (shapes,) = chosen
    # 4 / 2 heads over 2 tensor ranks; 32 tokens over the context ranks.
    assert shapes.startswith("2/1 heads of 16 float32, ")
    assert f"{32 // context} x 32" in shapes
    assert chosen[shapes] == "triton"

    again = Clock()
    known = {shapes: "sdpa"}
    assert choose_backend(recipe, layout, known, Choices(again)) == known
    assert again.calls == 0


def test_what_was_chosen_is_read_back(tmp_path: Path) -> None:
    """Catches a resumed run that rounds otherwise, because it measured again."""
    path = tmp_path / "kernels.json"
    assert read_choices(path) == {}
    path.write_text(json.dumps({"attention": {"some shapes": "triton"}}))
    assert read_choices(path) == {"some shapes": "triton"}


@pytest.mark.parametrize("text", ["", "[]", '{"attention": 3}', '{"attention": {"a": "b"}}'])
def test_a_damaged_choice_is_named(text: str, tmp_path: Path) -> None:
    """Catches a stack trace, and a damaged file that is silently ignored."""
    path = tmp_path / "kernels.json"
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"kernels\.json: cannot be read .*remove it"):
        read_choices(path)
