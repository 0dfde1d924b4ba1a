"""A small valid recipe for the tests of this folder, changed key by key."""

from pathlib import Path

from trainer.recipe import Recipe, load_recipe

TEXT = """\
run: runs/test
steps: 20
sequence_length: 32
model: {layers: 4, hidden: 64, heads: 4, kv_heads: 2, ffn: 128, vocab: 128}
batch: {sequences: 8}
optimizer: {lr: 1e-2}
"""


def written(folder: Path, text: str = TEXT) -> Path:
    """The recipe file with this text."""
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def changed(folder: Path, *overrides: str) -> Recipe:
    """The small recipe with these overrides."""
    return load_recipe(written(folder), overrides)
