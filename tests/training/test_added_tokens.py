"""Tokens that are added to a base: their ids, their rows, and a run that has them throughout."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.hugging_face.models import make_model
from tests.hugging_face.test_adapters import published_adapter
from tests.parity.ranks import on_ranks
from tests.training.runs import losses, train_here
from tests.training.sets import tuning_recipe
from trainer.checkpoint import CheckpointReader, resolve_checkpoint
from trainer.conversations.template import CHATML
from trainer.data.added_tokens import with_added_tokens
from trainer.data.tokenizer import load_tokenizer
from trainer.errors import RecipeError
from trainer.evaluate.opened import open_model
from trainer.hugging_face.adapter_import import import_adapter_command
from trainer.hugging_face.adapters import export_adapter_command
from trainer.hugging_face.exporting import export_command
from trainer.hugging_face.importing import import_command
from trainer.recipe import Recipe
from trainer.sources import ensure_corpus

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

TOLERANCE = 1e-5
PLAIN, SPECIAL = ("<protein>", " cat sat"), ("<|tool|>",)
SAVED = {"rank": 4, "modules_to_save": ["embed_tokens", "lm_head"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bases as published and imported, tied with rows to spare and untied, and a set."""
    made = tmp_path_factory.mktemp("added")
    for name, tied, rows in (("tied", True, 283), ("untied", False, 280)):
        options = {"tie_word_embeddings": tied, "vocab_size": rows, "num_hidden_layers": 2}
        make_model(made / f"{name}-published", "llama", options)
        (made / f"{name}-published" / "chat_template.jinja").write_text(CHATML)
        import_command(made / f"{name}-published", made / name)
    lines = [
        {"prompt": f"Is <protein> {number}?", "completion": f"The cat sat <protein>{number}."}
        for number in range(40)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (made / "conversations.jsonl").write_text(text)
    return made


def recipe_of(run: Path, folder: Path, base: str, **keys: Any) -> Recipe:
    """Fine-tuning with the added tokens."""
    changed = {
        "added_tokens": list(PLAIN),
        "added_special_tokens": list(SPECIAL),
        "model": CheckpointReader(resolve_checkpoint(folder / base)).model,
        **{"steps": 3, "evaluate": {"every": 0}, "sequence_length": 64, "optimizer": {"lr": 1e-3}},
        **keys,
    }
    return tuning_recipe(run, folder / base, folder, "sft", **changed)


def test_the_tokens_have_transformers_ids(folder: Path) -> None:
    """Catches an id, or a text, that the exported tokenizer would cut otherwise."""
    own = load_tokenizer(folder / "untied-published")
    grown = with_added_tokens(own, PLAIN, SPECIAL)
    peer = AutoTokenizer.from_pretrained(folder / "untied-published")
    peer.add_tokens(list(PLAIN))
    peer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    text = "The cat sat on <protein>s <|tool|>, cat sat"
    assert grown.encode_rendered(text) == peer.encode(text, add_special_tokens=False)
    assert grown.size == len(peer) == own.size + 3
    # What a user writes forges no special token; the others are words.
    typed = grown.encode(text)
    assert grown.special_tokens["<|tool|>"] not in typed and own.size in typed
    assert with_added_tokens(grown, PLAIN, SPECIAL) is grown
    assert grown.fingerprint != own.fingerprint


def test_a_token_that_is_there_becomes_what_transformers_makes_of_it(folder: Path) -> None:
    """Catches a plain token that is asked to be special and stays plain, or loses its id."""
    own = with_added_tokens(load_tokenizer(folder / "untied-published"), ["<b>"], [])
    own.save(folder / "with-b")
    grown = with_added_tokens(own, ["a", "<|im_end|>"], ["<b>"])
    peer = AutoTokenizer.from_pretrained(folder / "with-b")
    peer.add_tokens(["a"])
    peer.add_special_tokens({"additional_special_tokens": ["<b>"]})
    theirs = {one.content: (n, one.special) for n, one in peer.added_tokens_decoder.items()}
    ours = {one: (n, one in grown.special_tokens) for one, n in grown.added_tokens.items()}
    assert ours == theirs and ours["<b>"] == (280, True) and ours["<|im_end|>"] == (2, True)
    assert grown.size == own.size


def test_a_corpus_is_built_with_the_added_tokens(folder: Path, tmp_path: Path) -> None:
    """Catches a corpus in which the new tokens are spelled, which no run that has them can read."""
    for number in range(24):
        (tmp_path / f"{number}.txt").write_text(f"The <protein> {number} is a cat sat on. " * 9)
    keys = {
        **{"run": str(tmp_path / "run"), "init_from": str(folder / "untied"), "device": "cpu"},
        **{"steps": 1, "sequence_length": 64, "batch": {"sequences": 2, "micro": 2}},
        **{"evaluate": {"every": 0}, "data": {"workers": 0}, "optimizer": {"lr": 1e-3}},
        "corpus": {"source": "text", "files": [str(tmp_path / "*.txt")], "rules": None},
        **{"added_tokens": list(PLAIN)},
        "model": CheckpointReader(resolve_checkpoint(folder / "untied")).model,
    }
    recipe = Recipe.from_keys(keys)
    built, manifest = ensure_corpus(recipe, progress=False)
    assert set(PLAIN) < set(load_tokenizer(built / "tokenizer").added_tokens)
    assert manifest.tokenizer_size == 282
    assert on_ranks(1, train_here, recipe) == [None]


def saved(run: Path, name: str) -> torch.Tensor:
    return CheckpointReader(resolve_checkpoint(run)).read(f"model/{name}")


@pytest.mark.parametrize("base", ["tied", "untied"])
def test_new_rows_begin_as_the_mean_and_learn_at_every_layout(
    folder: Path, tmp_path: Path, base: str
) -> None:
    """Catches rows at random or lost between ranks, a base's spare rows that stay as they were, and
    a layout that sees other tokens, or one row more: two ranks do not divide 283.
    """
    still = recipe_of(tmp_path / "still", folder, base, optimizer={"lr": 1e-12}, steps=1)
    alone = recipe_of(tmp_path / "alone", folder, base)
    assert on_ranks(1, train_all, [still, alone]) == [[None, None]]
    published = AutoModelForCausalLM.from_pretrained(
        folder / f"{base}-published", dtype=torch.float32
    )
    tables = {"embedding.word_embeddings.weight": published.model.embed_tokens.weight.detach()}
    if base == "untied":
        tables["output_layer.weight"] = published.lm_head.weight.detach()
    for name, before in tables.items():
        after = saved(tmp_path / "still", name)
        assert after.shape[0] == 283
        torch.testing.assert_close(after[:280], before[:280], atol=1e-7, rtol=0)
        mean = before[:280].double().mean(0).float().expand(3, -1)
        torch.testing.assert_close(after[280:], mean, atol=1e-7, rtol=0)
        learnt = saved(tmp_path / "alone", name)[280]
        assert (learnt - mean[0]).abs().max() > 1e-4, "<protein> is read and written"
    layouts: list[dict[str, Any]] = [{"parallel__tensor": 2, "parallel__sequence": True}]
    layouts += [{"zero__stage": 3}] if base == "untied" else [{"parallel__pipeline": 2}]
    for number, layout in enumerate(layouts):
        recipe = recipe_of(tmp_path / str(number), folder, base, **layout)
        assert on_ranks(2, train_here, recipe) == [None] * 2
        assert losses(recipe) == pytest.approx(losses(alone), abs=TOLERANCE, rel=0), layout
    model = CheckpointReader(resolve_checkpoint(tmp_path / "0")).model
    assert (model["vocab"], model["padding_rows"]) == (284, 1)


@pytest.mark.parametrize("lora", [None, SAVED], ids=["full", "lora"])
def test_other_ranks_go_on_with_other_padding(
    folder: Path, tmp_path: Path, lora: dict[str, Any] | None
) -> None:
    """Catches a run that is bound to the ranks that it began on, and padding that is exported."""
    whole = recipe_of(tmp_path / "whole", folder, "untied", lora=lora)
    assert on_ranks(1, train_here, whole) == [None]
    for steps, ranks in ((1, 2), (2, 1), (3, 2)):
        recipe = recipe_of(
            tmp_path / "run", folder, "untied", lora=lora, steps=steps, parallel__tensor=ranks
        )
        assert on_ranks(ranks, train_here, recipe) == [None] * ranks
    assert losses(recipe) == pytest.approx(losses(whole), abs=TOLERANCE, rel=0)
    export_command(tmp_path / "run", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert merged.get_input_embeddings().weight.shape[0] == 283
    if lora is not None:
        export_adapter_command(tmp_path / "run", tmp_path / "peft")
        adapted = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "peft", dtype=torch.float32)
        tokens = torch.arange(283)[None]
        with torch.no_grad():
            difference = adapted.eval()(tokens).logits - merged.eval()(tokens).logits
        assert difference.abs().max() < TOLERANCE * 10, "logits of about 10"


def test_a_base_of_an_odd_number_of_rows_trains_at_every_layout(
    folder: Path, tmp_path: Path
) -> None:
    """Catches a base (with one token added by others, often) that two tensor ranks refuse, and
    padding that is learned from or exported.
    """
    none: dict[str, Any] = {"added_tokens": [], "added_special_tokens": []}
    alone = recipe_of(tmp_path / "alone", folder, "tied", **none)
    assert on_ranks(1, train_here, alone) == [None]
    for steps, ranks in ((1, 2), (2, 1), (3, 2)):
        recipe = recipe_of(
            tmp_path / "run", folder, "tied", **none, steps=steps, parallel__tensor=ranks
        )
        assert on_ranks(ranks, train_here, recipe) == [None] * ranks
    assert losses(recipe) == pytest.approx(losses(alone), abs=TOLERANCE, rel=0)
    model = CheckpointReader(resolve_checkpoint(tmp_path / "run")).model
    assert (model["vocab"], model["padding_rows"]) == (284, 1)
    export_command(tmp_path / "run", tmp_path / "out")
    rows = AutoModelForCausalLM.from_pretrained(tmp_path / "out").get_input_embeddings().weight
    assert rows.shape[0] == 283
    # An adapter of what was exported fits the run, whose padding is not PEFT's.
    whole = {"target_modules": ["q_proj"], "modules_to_save": SAVED["modules_to_save"]}
    published_adapter(tmp_path / "out", tmp_path / "peft", **whole)
    import_adapter_command(tmp_path / "peft", tmp_path / "imported", tmp_path / "run")
    model = CheckpointReader(resolve_checkpoint(tmp_path / "imported")).model
    assert (model["vocab"], model["padding_rows"]) == (283, 0)
    with pytest.raises(RecipeError, match="283 is not a multiple of"):
        recipe_of(
            *(tmp_path, folder, "tied"),
            **{**none, "parallel__tensor": 2, "lora": {"rank": 4, "targets": ["embed_tokens"]}},
        )


def train_all(recipes: list[Recipe]) -> list[Any]:
    return [train_here(recipe) for recipe in recipes]


def rows_when_opened(run: Path) -> tuple[int, int]:
    """Tokens and rows of the model as it is read."""
    with open_model(run, 1) as model:
        return model.tokenizer.size, len(model.chunks[0].embedding.word_embeddings.weight)


@pytest.mark.parametrize("lora", [None, SAVED], ids=["full", "lora"])
def test_a_run_goes_on_and_is_exported_with_its_tokens(
    folder: Path, tmp_path: Path, lora: dict[str, Any] | None
) -> None:
    """Catches a resume that grows again, and a folder whose model and tokenizer do not fit."""
    whole = recipe_of(tmp_path / "whole", folder, "untied", lora=lora)
    halves = [
        recipe_of(tmp_path / "run", folder, "untied", lora=lora, steps=steps) for steps in (1, 3)
    ]
    assert on_ranks(1, train_all, [whole, *halves]) == [[None] * 3]
    assert losses(halves[1]) == losses(whole)
    assert on_ranks(1, rows_when_opened, tmp_path / "run") == [(283, 283)]
    export_command(tmp_path / "run", tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer) == 283
    assert tokenizer.encode("<protein>", add_special_tokens=False) == [280]
    if lora is None:
        return
    export_adapter_command(tmp_path / "run", tmp_path / "peft")
    adapted = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "peft", dtype=torch.float32)
    tokens = torch.randint(0, 283, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, merged = adapted.eval()(tokens).logits, model.eval()(tokens).logits
    scale = merged.abs().max().clamp(min=1)
    assert (found - merged).abs().max() / scale < TOLERANCE


def test_tokens_that_could_never_learn_are_refused(folder: Path, tmp_path: Path) -> None:
    """Catches rows that adapters leave at their first values, and a token named twice."""
    with pytest.raises(RecipeError, match="add \\[embed_tokens, lm_head\\] to lora"):
        recipe_of(tmp_path, folder, "untied", lora={"rank": 4})
    with pytest.raises(RecipeError, match="names '<a>' twice"):
        recipe_of(tmp_path, folder, "untied", added_tokens=["<a>", "<a>"])
    with pytest.raises(RecipeError, match="added_tokens: are added to the tokenizer of init_from"):
        recipe_of(tmp_path, folder, "untied", init_from=None)
