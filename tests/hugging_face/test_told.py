"""What an import says of a base that is loaded, but not as its reader may think."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tests.hugging_face.models import DYNAMIC_ROPE, make_model
from tests.parity.ranks import on_ranks
from trainer.checkpoint import CheckpointReader, resolve_checkpoint
from trainer.data.tokenizer import load_tokenizer
from trainer.errors import CheckpointError
from trainer.evaluate.opened import open_model
from trainer.evaluate.sampling import Sampling
from trainer.evaluate.writing import generate_command
from trainer.hugging_face import importing
from trainer.hugging_face.exporting import export_command
from trainer.hugging_face.generation import _OFF, unapplied
from trainer.hugging_face.importing import import_command

MAIN = "tokenizer.json"


def add_token(folder: Path, name: str, special: bool = True) -> int:
    """Add a token to a folder's tokenizer alone; returns how many it has then."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / MAIN))
    tokenizer.add_tokens([tokenizers.AddedToken(name, special=special)])
    tokenizer.save(str(folder / MAIN))
    return tokenizer.get_vocab_size()


def test_a_token_without_a_row_is_imported_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a base that transformers loads and we refuse, or take without a word."""
    folder = tmp_path / "model"
    make_model(folder, "llama", {"attention_dropout": 0.1})
    tokens = add_token(folder, "<pad_me>", special=False)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert len(AutoTokenizer.from_pretrained(folder)) == tokens
    assert model.get_input_embeddings().num_embeddings == tokens - 1
    with caplog.at_level(logging.WARNING):
        import_command(folder, tmp_path / "run")
    (line,) = [one for one in caplog.messages if "<pad_me>" in one]
    assert f"has {tokens} tokens and its embedding {tokens - 1} rows: none for <pad_me>" in line
    assert f"{folder}: attention_dropout 0.1 is not applied in training here" in caplog.messages
    saved = load_tokenizer(resolve_checkpoint(tmp_path / "run") / "tokenizer")
    assert saved.beyond(tokens - 1) == {"<pad_me>": tokens - 1}
    asked = tmp_path / "asked.txt"
    asked.write_text("river\n\nread <pad_me>\n")
    with pytest.raises(AssertionError, match=r"asked.txt line 3: the prompt holds <pad_me> \("):
        on_ranks(1, generate_command, tmp_path / "run", None, asked, None, Sampling(4, 0.0))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    """Catches the exception above made for any larger vocabulary."""
    folder = tmp_path / "model"
    make_model(folder, "llama", {})
    raw = json.loads((folder / MAIN).read_text())
    vocabulary = raw["model"]["vocab"]
    rows = max(vocabulary.values()) + 1
    vocabulary["strange"] = rows
    (folder / MAIN).write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match="none for strange; they belong to different models"):
        import_command(folder, tmp_path / "run")


def test_fp16_weights_are_said_to_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Catches a base whose precision changes when it is trained, unsaid."""
    make_model(tmp_path / "half", "llama", {}, "float16")
    make_model(tmp_path / "whole", "llama", {})
    for name, told in (("half", True), ("whole", False)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            import_command(tmp_path / name, tmp_path / f"run-{name}")
        assert any("its weights are fp16, and stay so" in one for one in caplog.messages) == told
    reader = CheckpointReader(resolve_checkpoint(tmp_path / "run-half"))
    assert {reader.dtype(key) for key in reader.keys()} == {torch.float16}  # noqa: SIM118
    expected = AutoModelForCausalLM.from_pretrained(tmp_path / "half", dtype=torch.float32)
    (weights,) = on_ranks(1, opened_weights, tmp_path / "run-half")
    assert weights == expected.lm_head.weight.tolist(), "bf16 would round them"


def opened_weights(run: Path) -> list[list[float]]:
    with open_model(run, 1) as model:
        parameters = dict(model.chunks[0].named_parameters())
        rows: list[list[float]] = parameters["output_layer.weight"].tolist()
        return rows


def test_a_trained_length_that_no_key_says_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Catches 40 trained tokens lost, or written where dynamic rope would start from them."""
    save = importing.save_imported
    monkeypatch.setenv("COLUMNS", "200")

    def trained(run: Path, pieces: Any, recipe: Any, _positions: int, attachments: Any) -> None:
        save(run, pieces, recipe, 40, attachments)

    monkeypatch.setattr(importing, "save_imported", trained)
    # Made for 8 tokens, and meant to read 32.
    make_model(
        tmp_path / "model", "llama", {"rope_parameters": DYNAMIC_ROPE, "max_position_embeddings": 8}
    )
    import_command(tmp_path / "model", tmp_path / "run")
    with caplog.at_level(logging.WARNING):
        export_command(tmp_path / "run", tmp_path / "out")
    (line,) = [one for one in caplog.messages if "trained on 40 tokens is not said" in one]
    assert f"{tmp_path / 'out' / 'config.json'}: max_position_embeddings is 8" in line
    assert (
        json.loads((tmp_path / "out" / "config.json").read_text())["max_position_embeddings"] == 8
    )
    # The proof reaches past it, by half of the tokens that it compares.
    assert re.findall(r"same shape, to (\d+) tokens", capsys.readouterr().out) == ["64", "72"]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"repetition_penalty": 1.0, "num_beams": 1, "top_k": 20, "suppress_tokens": []}, None),
        (
            {"repetition_penalty": 1.05},
            r"^repetition_penalty 1\.05 of its .* by generate and chat$",
        ),
        (
            {"repetition_penalty": 1.05, "bad_words_ids": [[3]], "temperature": 0.7, "top_p": 0.8},
            r"bad_words_ids \[\[3\]\] of .*; .* they take --temperature 0\.7 --top-p 0\.8$",
        ),
    ],
)
def test_what_a_generation_config_asks_for_is_done_or_said(
    config: dict[str, Any], told: str | None
) -> None:
    """Catches greedy texts unlike transformers', whose repetition penalty nobody speaks of."""
    found = unapplied(json.dumps(config).encode())
    assert found is None if told is None else found and re.search(told, found)


def test_settings_that_are_off_are_transformers_own_defaults() -> None:
    """Catches a warning for every model, or none for one that transformers would change."""
    defaults = GenerationConfig._get_default_generation_params()
    assert {name: defaults[name] for name in _OFF.keys() & defaults.keys()} == {
        name: off for name, off in _OFF.items() if name in defaults
    }
    assert len(_OFF.keys() & defaults.keys()) > 12, "they are still called so"
    config = {**defaults, "eos_token_id": 2, "pad_token_id": 0, "do_sample": True}
    assert unapplied(json.dumps(config).encode()) is None
