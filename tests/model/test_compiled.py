"""Compiled layers learn what eager ones learn, from one graph a kind of layer."""

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

import kernels.dispatch
import trainer.model.compiled as compiled
from tests.parity.lora import lora_recipe, lora_steps
from tests.parity.ranks import on_ranks
from tests.parity.test_parity import GRADIENT_TOLERANCE, LOSS_TOLERANCE, learned, name, one_process
from tests.parity.training import (
    VOCAB,
    Curve,
    batch_of,
    largest_gradient_difference,
    recipe_of,
    train_steps,
)
from trainer.errors import RecipeError
from trainer.model.passes import NextToken
from trainer.model.rotary import rotary_embedding
from trainer.model.sequence import SequenceLayout
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout, leave
from trainer.recipe import Recipe

COMPILED = {"kernels__compile": "layer"}

LAYOUTS: list[tuple[int, dict[str, Any], int]] = [
    (1, {}, 1),
    # Under full recomputation a layer runs without gradients first, which is a graph of its own.
    (2, {"parallel__tensor": 2, "parallel__sequence": True, "recompute": "full"}, 2),
    (2, {"parallel__context": 2, "zero__stage": 2, "kernels__attention": "reference"}, 1),
    (2, {"parallel__pipeline": 2, "parallel__virtual": 2, "model__tied_embeddings": True}, 1),
    (
        2,
        {
            **{"parallel__tensor": 2, "zero__stage": 1},
            **{"model__qkv_bias": True, "model__qk_norm": True},
        },
        1,
    ),
    # Layers that see through a window, and layers that do not.
    (2, {"model__window": 7, "model__window_pattern": ("local", "local", "global")}, 2),
]


def on_aot_eager(recipe: Recipe, steps: int) -> tuple[Curve, int, list[str]]:
    """The curve, how many graphs were compiled, and what compiling logged.

    The graphs run on PyTorch's own operators: tracing is what differs from layout to layout.
    """
    compiled.BACKEND = "aot_eager"
    return steps_counted(recipe, steps)


def steps_counted(recipe: Recipe, steps: int) -> tuple[Curve, int, list[str]]:
    """As `on_aot_eager`, with inductor."""
    lines = _Lines()
    logger = logging.getLogger(compiled.__name__)
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    curve = (train_steps if recipe.lora is None else lora_steps)(recipe, steps)
    return curve, counters["stats"]["unique_graphs"], lines.lines


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def check_equal(curve: Curve, reference: Curve) -> None:
    """The bounds of invariant 1 (trainer/README.md)."""
    assert curve.losses == pytest.approx(reference.losses, abs=LOSS_TOLERANCE, rel=0)
    difference, where = largest_gradient_difference(curve, reference)
    assert difference < GRADIENT_TOLERANCE, where


@pytest.mark.parametrize(
    ("ranks", "keys", "graphs"), LAYOUTS, ids=[name(layout[:2]) for layout in LAYOUTS]
)
def test_compiled_layers_learn_what_eager_ones_learn(
    ranks: int, keys: dict[str, Any], graphs: int
) -> None:
    """Catches an exchange that a graph lost, and a graph for each layer, step or micro-batch."""
    reference = one_process(keys.get("model__tied_embeddings", False), 5, **learned(keys))
    for curve, counted, lines in on_ranks(ranks, on_aot_eager, recipe_of(**COMPILED | keys), 5):
        check_equal(curve, reference)
        assert counted == graphs
        held = 4 // keys.get("parallel__pipeline", 1)
        (line,) = lines
        assert line.startswith(f"compiled {held} layers in ")


def test_adapters_learn_alike_and_each_kind_of_layer_has_a_graph() -> None:
    """Catches a frozen weight or an adapter left out of a graph, or one kind run as another."""
    keys = {"lora__targets": ["q_proj", "model.layers.[12].*.o_proj"]}
    (eager,) = on_ranks(1, lora_steps, lora_recipe(**keys), 2)
    tensor = lora_recipe(**COMPILED | keys, parallel__tensor=2)
    for curve, counted, _lines in on_ranks(2, on_aot_eager, tensor, 2):
        check_equal(curve, eager)
        assert counted == 2


def too_many_kinds(recipe: Recipe) -> str:
    """The one line that a second kind of layer is refused with, where one is the limit."""
    with torch._dynamo.config.patch(recompile_limit=1), pytest.raises(RecipeError) as caught:
        on_aot_eager(recipe, 1)
    return str(caught.value)


def test_more_kinds_of_layers_than_graphs_are_one_line() -> None:
    """Catches a stack trace, or eager layers that nobody was told of."""
    recipe = lora_recipe(**COMPILED, lora__targets=["q_proj", "model.layers.[12].*.o_proj"])
    (line,) = on_ranks(1, too_many_kinds, recipe)
    assert line.startswith("kernels.compile: layer makes 1 graphs at most")
    assert "\n" not in line


def bf16_gradients(recipe: Recipe) -> list[tuple[str, torch.dtype, torch.Tensor]]:
    """Each weight's gradient after all micro-batches of a batch."""
    compiled.BACKEND = "aot_eager"
    layout = create_layout(recipe)
    try:
        chunks = build_model(recipe, VOCAB, layout)
        NextToken(chunks, recipe, layout).run(batch_of(0), torch.tensor(100.0))
        named = chunks[0].named_parameters()
        return [(name, p.grad.dtype, p.grad.clone()) for name, p in named if p.grad is not None]
    finally:
        leave()


def test_bf16_weights_accumulate_their_gradients_in_fp32() -> None:
    """Catches a graph whose gradients come in, or are summed in, the weights' own dtype."""
    keys = {"precision": "bf16", "batch__micro": 1}
    (eager,) = on_ranks(1, bf16_gradients, recipe_of(**keys))
    (found,) = on_ranks(1, bf16_gradients, recipe_of(**COMPILED | keys))
    assert len(found) == len(eager) > 0
    for (where, dtype, gradient), (_, _, right) in zip(found, eager, strict=True):
        assert dtype == torch.float32, where
        assert torch.equal(gradient, right), where
    # Sums of 8 micro-batches in bf16 would be bf16 numbers: here they are not.
    assert any(not torch.equal(g, g.bfloat16().float()) for _, _, g in found)


def evaluated(recipe: Recipe) -> tuple[list[torch.Tensor], list[int]]:
    """Logits of whole and of shorter sequences, training or not; how many graphs there were."""
    compiled.BACKEND = "aot_eager"
    layout = create_layout(recipe)
    try:
        chunk = build_model(recipe, VOCAB, layout)[0]
        logits, graphs = [], []
        with torch.no_grad():
            for training, length in ((False, 32), (False, 7), (True, 9), (True, 32)):
                chunk.train(training)
                tokens = torch.arange(2 * length).view(2, length) % VOCAB
                positions = torch.arange(length).expand(2, length)
                sequence = SequenceLayout.whole(positions, rotary_embedding(recipe))
                logits.append(chunk(tokens, sequence))
                graphs.append(counters["stats"]["unique_graphs"])
        return logits, graphs
    finally:
        leave()


def test_evaluation_and_other_lengths_compile_nothing() -> None:
    """Catches a graph for each length of a prompt; the last, a training pass, must make one."""
    (eager, _), (found, graphs) = (
        on_ranks(1, evaluated, recipe_of(**keys))[0] for keys in ({}, COMPILED)
    )
    assert graphs == [0, 0, 0, 1]
    for logits, right in zip(found, eager, strict=True):
        assert torch.equal(logits, right)


def with_inductor(recipe: Recipe, cache: str, steps: int, mode: str) -> tuple[Curve, int, int]:
    """The curve, and how often inductor's cache knew a graph and did not.

    Without vectors g++ has less to do, and without a pool no process imports torch to wait for it;
    what is made is not the matter.
    """
    os.environ["LYCEUM_CACHE"] = cache
    os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)
    kernels.dispatch.MODE = mode
    with torch._inductor.config.patch({"cpp.simdlen": 1, "compile_threads": 1}):
        curve, _, _ = steps_counted(recipe, steps)
    found = counters["inductor"]
    return curve, found["fxgraph_cache_hit"], found["fxgraph_cache_miss"]


SMALL = {"model__layers": 1, "batch__micro": 8}


def test_a_second_start_finds_the_code_of_the_first(tmp_path: Path) -> None:
    """Catches a cache that no other process reads, and code that learns something else."""
    (eager,) = on_ranks(1, train_steps, recipe_of(**SMALL), 2)
    first, second = (
        on_ranks(1, with_inductor, recipe_of(**COMPILED | SMALL), str(tmp_path), 2, "")[0]
        for _ in range(2)
    )
    check_equal(first[0], eager)
    assert second[0].losses == first[0].losses
    # A forward and a backward graph.
    assert first[1:] == (0, 2)
    assert second[1:] == (2, 0)
    assert (tmp_path / "compiled").is_dir()


def test_custom_operators_keep_what_their_fakes_promise(tmp_path: Path) -> None:
    """Catches a fake of another size or stride than its Triton kernel's: inductor asserts them."""
    model = {"layers": 1, "hidden": 32, "heads": 2, "kv_heads": 1, "ffn": 32, "vocab": VOCAB}
    keys = {"model": model, "batch__micro": 8}
    (eager,) = on_ranks(1, train_steps, recipe_of(**keys), 1)
    recipe = recipe_of(**COMPILED | keys)
    ((curve, *_),) = on_ranks(1, with_inductor, recipe, str(tmp_path), 1, "triton")
    check_equal(curve, eager)


def without_compiler(recipe: Recipe, cache: str) -> str:
    """The one line that training is refused with where there is no C++ compiler."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
    missing = {"cpp.cxx": ("no-such-compiler",)}
    with torch._inductor.config.patch(missing), pytest.raises(RecipeError) as caught:
        train_steps(recipe, 1)
    return str(caught.value)


def test_no_compiler_is_one_line(tmp_path: Path) -> None:
    """Catches a stack trace where g++ is missing."""
    (line,) = on_ranks(1, without_compiler, recipe_of(**COMPILED), str(tmp_path))
    assert line == (
        "kernels.compile: layer needs a C++ compiler on the CPU, and none was found; install g++ "
        "(or name one in CXX) or use kernels.compile=none"
    )


@pytest.mark.parametrize(
    ("keys", "why", "mend"),
    [
        ({"zero__stage": 3}, "gathers weights inside the layer", "zero.stage=2"),
        ({"recompute": "attention"}, "what of a layer is kept", "recompute=full"),
        ({"recompute": ["norms"]}, "what of a layer is kept", "recompute=none"),
        ({"offload": "activations"}, "offload cannot move it", "offload=none"),
    ],
    ids=str,
)
def test_what_cannot_be_traced_is_refused_in_one_line(
    keys: dict[str, Any], why: str, mend: str
) -> None:
    """Catches a layout that would fail in the first step, and a line without its mend."""
    recipe_of(**keys)  # legal without
    with pytest.raises(RecipeError) as caught:
        recipe_of(**COMPILED | keys)
    line = str(caught.value)
    assert line.startswith("recipe: kernels.compile: layer ")
    assert why in line
    assert f"use {mend}" in line or f", {mend}" in line
    assert line.endswith("or kernels.compile=none")
    assert "\n" not in line


def test_flash_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a graph that would break at flash-attn, or be made anew for each longest document."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    flash = {"kernels__attention": "flash", "precision": "bf16"}
    recipe_of(**flash)  # legal without
    with pytest.raises(RecipeError, match=r"cannot trace kernels\.attention flash.*auto or"):
        recipe_of(**COMPILED | flash)
