"""From a Hugging Face model through adapters and back, as recipes do it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.hugging_face.models import make_model, our_texts, their_texts
from tests.model.lora import logits_of
from tests.parity.ranks import on_ranks
from tests.training.runs import losses, train_here
from tests.training.sets import tuning_recipe, write_sets
from trainer.checkpoint import CheckpointReader, resolve_checkpoint
from trainer.conversations.template import CHATML
from trainer.evaluate.opened import open_model
from trainer.hugging_face.adapters import export_adapter_command
from trainer.hugging_face.exporting import export_command
from trainer.hugging_face.importing import import_command
from trainer.recipe import Recipe

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"head_dim": 24},
    "qwen2": {"tie_word_embeddings": True},
}
TENSOR = {"parallel__tensor": 2, "parallel__sequence": True}
TOLERANCE = 1e-5
"""Nats, and of logits; rounding alone gives about 1e-6."""
TOKENS = torch.randint(0, 270, (2, 48), generator=torch.Generator().manual_seed(0))
KEPT = ("config.json", "LICENSE", "tokenizer.json", "chat_template.jinja")


def bring(folder: Path, family: str, seed: str = "published") -> Path:
    """A random model published, and imported as the run `folder`/base."""
    options = {**FAMILIES[family], "max_position_embeddings": 128}
    make_model(folder / seed, family, options)
    (folder / seed / "chat_template.jinja").write_text(CHATML)
    import_command(folder / seed, folder / "base")
    return folder / "base"


def lora_recipe(
    run: Path, base: Path, stage: str = "sft", data: Path | None = None, **keys: Any
) -> Recipe:
    """Adapters on an imported model; its folder holds the sets too, unless `data` does."""
    changed = {
        **{"model": CheckpointReader(resolve_checkpoint(base)).model, "lora__rank": 4},
        **{"sequence_length": 128, "steps": 4, "evaluate": {"every": 0}},
        **keys,
    }
    return tuning_recipe(run, base, data or base.parent, stage, **changed)


def begin(folder: Path, family: str) -> list[Any]:
    """On one rank: bring a model, and tune it in one go and in two."""
    base = bring(folder, family)
    return train_all([lora_recipe(folder / "whole", base), *twice(folder / "halves", base)])


def twice(run: Path, base: Path, **keys: Any) -> list[Recipe]:
    """A run of two steps, and the same run prolonged to four."""
    return [lora_recipe(run, base, steps=steps, **keys) for steps in (2, 4)]


def train_all(recipes: list[Recipe]) -> list[Any]:
    return [train_here(recipe) for recipe in recipes]


@pytest.fixture(scope="module", params=FAMILIES)
def tuned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a published model, its import, and the runs of adapters on it."""
    folder = write_sets(tmp_path_factory.mktemp("tuned"))
    assert on_ranks(1, begin, folder, request.param) == [[None] * 3]
    recipes = [
        lora_recipe(folder / "split", folder / "base", **TENSOR),
        *twice(folder / "split-halves", folder / "base", **TENSOR),
    ]
    for recipe in recipes:
        assert on_ranks(2, train_here, recipe) == [None] * 2
    return folder


def curve(run: Path) -> list[float]:
    return losses(Recipe.from_yaml((run / "recipe.yaml").read_text()))


def adapters_of(run: Path) -> dict[str, torch.Tensor]:
    reader = CheckpointReader(resolve_checkpoint(run))
    return {key: reader.read(key) for key in reader.keys()}  # noqa: SIM118 (no mapping)


def test_adapters_learn_the_same_on_two_ranks(tuned: Path) -> None:
    """Catches adapters cut wrongly, beside biases too, and the ones that learn nothing."""
    alone = curve(tuned / "whole")
    assert curve(tuned / "split") == pytest.approx(alone, abs=TOLERANCE, rel=0)
    assert alone[-1] < alone[0] - 1e-3


@pytest.mark.parametrize("layout", ["", "split-"])
def test_adapters_go_on_bitwise(tuned: Path, layout: str) -> None:
    """Catches optimizer state, an order of examples or a base that a restart changes."""
    whole = tuned / (layout.removesuffix("-") or "whole")
    halves = tuned / f"{layout}halves"
    assert curve(halves) == curve(whole)
    ended, other = adapters_of(whole), adapters_of(halves)
    assert ended.keys() == other.keys()
    assert all(torch.equal(ended[key], other[key]) for key in ended)


def logits_here(run: Path) -> torch.Tensor:
    """Of base and adapters, unmerged."""
    with open_model(run, 1) as model:
        return logits_of(model.chunks, model.recipe, TOKENS)


@torch.no_grad()
def test_peft_loads_the_adapters_on_the_published_model(tuned: Path, tmp_path: Path) -> None:
    """Catches adapters that only fit our own names, or another scale than the recipe's."""
    ours = on_ranks(1, logits_here, tuned / "split-halves")[0]
    export_adapter_command(tuned / "split-halves", tmp_path / "peft", str(tuned / "published"))
    plain = AutoModelForCausalLM.from_pretrained(tuned / "published", dtype=torch.float32).eval()
    alone = plain(TOKENS).logits
    theirs = PeftModel.from_pretrained(plain, str(tmp_path / "peft"))(TOKENS).logits
    assert (theirs - alone).abs().max() > 1e-2, "adapters that say nothing would agree anyway"
    scale = theirs.abs().max().clamp(min=1)
    assert (ours - theirs).abs().max() / scale < TOLERANCE


def merged_texts(run: Path, folder: Path) -> tuple[list[list[int]], list[list[int]]]:
    """What we write, and what transformers writes with the merged model."""
    export_command(run, folder)
    return our_texts(run), their_texts(folder)


def test_the_merged_model_writes_the_same_in_transformers(tuned: Path, tmp_path: Path) -> None:
    """Catches a merge into the wrong rows, and what came with the import lost on the way."""
    ours, theirs = on_ranks(1, merged_texts, tuned / "halves", tmp_path / "merged")[0]
    assert ours == theirs
    for name in KEPT:
        same = (tuned / "published" / name).read_bytes() == (
            tmp_path / "merged" / name
        ).read_bytes()
        assert same, name


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_the_base_is_the_same_reference_as_the_stored_one(
    tuned: Path, tmp_path: Path, loss
) -> None:
    """Catches a reference measured with the adapters on, or after they have learned."""
    recipes = [
        lora_recipe(
            *(tmp_path / reference, tuned / "base", "preference"),
            **{"preference": {"loss": loss, "reference": reference}},
        )
        for reference in ("stored", "base")
    ]
    assert on_ranks(1, train_all, recipes) == [[None, None]]
    stored, base = (losses(recipe) for recipe in recipes)
    assert base == pytest.approx(stored, abs=TOLERANCE, rel=0)
    assert len(set(stored)) == len(stored), "it learns"


def told(recipe: Recipe) -> tuple[str, str]:
    """The kind and the line of the error that ends the run."""
    (failure,) = on_ranks(1, train_here, recipe)
    assert failure is not None and "\n" not in failure[1]
    return failure


def test_adapters_of_another_base_are_refused(tuned: Path, tmp_path: Path) -> None:
    """Catches adapters that go on upon weights that they were not made for."""
    shutil.copytree(tuned / "halves", tmp_path / "halves")
    full = lora_recipe(tmp_path / "full", tuned / "base", steps=1, lora=None)
    assert on_ranks(1, train_here, full) == [None]
    other = lora_recipe(tmp_path / "halves", tmp_path / "full", data=tuned, steps=5)
    kind, line = told(other)
    assert kind == "RecipeError" and "is another base than" in line


def test_adapters_go_on_where_only_they_know_their_base(tuned: Path, tmp_path: Path) -> None:
    """Catches a resume that asks for `init_from`, which the checkpoint itself can name."""
    for name in ("base", "halves"):
        shutil.copytree(tuned / name, tmp_path / name)
    keys = lora_recipe(tmp_path / "halves", tmp_path / "base", data=tuned, steps=5)
    saved = CheckpointReader(resolve_checkpoint(tmp_path / "halves")).attachment("recipe.yaml")
    named = str(Recipe.from_yaml(saved.decode()).init_from)
    assert Path(named).is_relative_to(tuned), "the place before the move"
    recipe = Recipe.from_keys({**keys.model_dump(mode="json"), "init_from": named})
    (tuned / "base").rename(tuned / "aside")
    try:
        # Beside the run is a copy of the base, where base.json finds it; at `init_from` nothing.
        assert on_ranks(1, train_here, recipe) == [None]
        (tmp_path / "base").rename(tmp_path / "gone")
        longer = Recipe.from_keys({**recipe.model_dump(mode="json"), "steps": 6})
        kind, line = told(longer)
        assert kind == "CheckpointError" and "holds adapters for the base" in line
    finally:
        (tuned / "aside").rename(tuned / "base")
    assert len(curve(tmp_path / "halves")) == 5
