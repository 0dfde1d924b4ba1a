"""What was trained here, at any layout, is read by transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.hugging_face.models import CHAT_TEMPLATE, our_texts, tensors_of, their_texts
from tests.parity.ranks import on_ranks
from trainer.data.tokenizer import train_tokenizer
from trainer.recipe import Recipe

LAYOUTS: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
    "tensor 2 pipeline 2": (4, {"tensor": 2, "pipeline": 2}, {}),
    "tied, biases, tensor 2": (2, {"tensor": 2}, {"tied_embeddings": True, "qkv_bias": True}),
    "head norms, virtual": (2, {"pipeline": 2, "virtual": 2}, {"qk_norm": True}),
    "windows, geglu, pipeline 2": (
        2,
        {"pipeline": 2},
        {
            "window": 5,
            "window_pattern": ["local", "global"],
            "qk_norm": True,
            "activation": "geglu",
        },
    ),
    "one window": (1, {}, {"window": 5}),
}


def recipe_of(run: Path, parallel: dict[str, Any], model: dict[str, Any]) -> Recipe:
    return Recipe.from_keys(
        {
            "run": str(run),
            "device": "cpu",
            "steps": 1,
            "sequence_length": 64,
            "model": {
                **{"layers": 4, "hidden": 64, "heads": 4, "kv_heads": 2, "ffn": 96},
                **{"vocab": 384, "init_std": 0.2, **model},
            },
            "batch": {"sequences": 8},
            "optimizer": {"lr": 1e-3},
            "parallel": parallel,
        }
    )


def save(run: Path, parallel: dict[str, Any], model: dict[str, Any], precision: str) -> None:
    """Save random weights as training does: with masters and moments, each rank its boxes."""
    from trainer.checkpoint import save_checkpoint
    from trainer.checkpoint.state import training_pieces
    from trainer.model.transformer import build_model
    from trainer.parallel.join import create_layout
    from trainer.parallel.zero import create_optimizer

    recipe = recipe_of(run, parallel, model).model_copy(update={"precision": precision})
    layout = create_layout(recipe)
    chunks = build_model(recipe, 384, layout)
    optimizer = create_optimizer(chunks, recipe, layout)
    tokenizer = train_tokenizer(["the cat sat on the mat and a dog ran to the mat"] * 9, 280)
    attachments = {f"tokenizer/{name}": content for name, content in tokenizer.files.items()}
    attachments["tokenizer/chat_template.jinja"] = CHAT_TEMPLATE.encode()
    save_checkpoint(
        run / "checkpoints",
        3,
        training_pieces(chunks, optimizer),
        model=recipe.model.model_dump(mode="json"),
        counters={"step": 3},
        attachments=attachments | {"recipe.yaml": recipe.to_yaml().encode()},
    )


def export_and_write(run: Path, folder: Path) -> tuple[list[list[int]], list[list[int]]]:
    from trainer.hugging_face.exporting import export_command

    export_command(run, folder)
    return our_texts(run), their_texts(folder)


def export_all(root: Path) -> None:
    """Both precisions, saved and exported in each type that can be asked for."""
    from trainer.hugging_face.exporting import export_command
    from trainer.parallel.join import leave

    for precision, dtypes in {"bf16": ["stored", "fp32", "bf16"], "fp32": ["bf16"]}.items():
        save(root / precision, {}, {}, precision)
        leave()
        for dtype in dtypes:
            export_command(root / precision, root / f"{precision}-{dtype}", dtype=dtype)


@pytest.mark.parametrize("name", LAYOUTS)
def test_transformers_writes_what_we_write(tmp_path: Path, name: str) -> None:
    """Catches boxes of one layout put together wrongly, and ids of rows that are no tokens."""
    ranks, parallel, model = LAYOUTS[name]
    on_ranks(ranks, save, tmp_path / "run", parallel, model, "fp32")
    ours, theirs = on_ranks(1, export_and_write, tmp_path / "run", tmp_path / "out")[0]
    assert ours == theirs
    assert len({tuple(text) for text in ours}) > 1
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == CHAT_TEMPLATE
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [0]
    assert generation["suppress_tokens"][-1] == 383


def test_the_weights_are_exported_in_the_type_asked_for(tmp_path: Path) -> None:
    """Catches fp32 masters in the weights' place, a cast left out, a config of another type."""
    on_ranks(1, export_all, tmp_path)
    narrow, wide = torch.bfloat16, torch.float32
    for name, expected in {
        **{"bf16-stored": narrow, "bf16-fp32": wide, "bf16-bf16": narrow, "fp32-bf16": narrow}
    }.items():
        tensors = tensors_of(tmp_path / name)
        assert {tensor.dtype for tensor in tensors.values()} == {expected}, name
        weight = tensors["lm_head.weight"]
        assert torch.equal(weight.float(), weight.bfloat16().float()), "not the masters"
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert config["dtype"] == str(expected).removeprefix("torch.")
