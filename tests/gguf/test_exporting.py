"""A checkpoint becomes a GGUF file that transformers reads, and that comes back as it was."""

from pathlib import Path
from typing import Any

import gguf
import pytest
import torch

from tests.gguf.models import QWEN3, TOKENIZER, our_logits, their_logits
from tests.hugging_face.models import DYNAMIC_ROPE, LLAMA3_ROPE, LONG_ROPE, YARN_ROPE, make_model
from trainer.checkpoint.adapted import saved_recipe, saved_tokenizer
from trainer.checkpoint.read import CheckpointReader
from trainer.cli import main
from trainer.errors import CheckpointError
from trainer.gguf import exporting
from trainer.gguf.exporting import export_gguf_command
from trainer.gguf.model import GgufModel, gguf_file, parts_of
from trainer.hugging_face.importing import import_command

WINDOWS = {"sliding_window": 6, "layer_types": ["full_attention", "sliding_attention"]}
USED = {"use_sliding_window": True}
CASES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "llama": ("llama", {}, "q8_0"),
    "qwen3": ("qwen3", QWEN3 | {"tie_word_embeddings": True}, "bf16"),
    "llama 3": ("llama", {"rope_parameters": LLAMA3_ROPE}, "fp32"),
    "mistral": ("mistral", {"rope_parameters": LONG_ROPE, "sliding_window": 7}, "bf16"),
    "ministral": ("ministral", {"head_dim": 24} | WINDOWS, "q8_0"),
    "qwen2": (
        "qwen2",
        {"rope_parameters": YARN_ROPE, "use_sliding_window": True} | WINDOWS,
        "bf16",
    ),
}
READ_BY_TRANSFORMERS = ("llama", "qwen3")
"""Without a window or a scaled rotation, which transformers 5.23 leaves unread."""


def checkpoint_of(folder: Path, family: str, options: dict[str, Any]) -> Path:
    make_model(folder / "given", family, {"num_hidden_layers": 2} | options)
    import_command(folder / "given", folder / "run", show=False)
    return folder / "run"


@pytest.mark.parametrize("case", CASES)
def test_a_file_says_all_that_the_checkpoint_does(case: str, tmp_path: Path) -> None:
    """Catches a key that is not written, or by a name that nobody reads; the logits are compared by
    the export itself.
    """
    family, options, kind = CASES[case]
    run = checkpoint_of(tmp_path, family, options)
    file = tmp_path / "out" / "model.gguf"
    export_gguf_command(run, file, kind)
    reader = CheckpointReader(run / "checkpoints/step-00000000")
    before, back = saved_recipe(reader).model, GgufModel(file).described
    assert back.family == family and back.positions == 64
    # GGUF says neither how weights began, nor that a row is not to learn.
    same = {name: getattr(before, name) for name in ("init_std", "padding_token", "rope_scaling")}
    assert back.model.model_copy(update=same) == before
    if before.rope_scaling is not None and back.model.rope_scaling is not None:
        assert back.model.rope_scaling.type == before.rope_scaling.type
    ours, read = saved_tokenizer(reader), GgufModel(file).tokenizer
    assert read.files["chat_template.jinja"] == ours.files["chat_template.jinja"]
    assert read.named_templates == ours.named_templates and read.ends == ours.ends
    assert len(gguf.GGUFReader(file).tensors) == len(GgufModel(file).tensors().names()) + (
        {"llama 3": 1, "mistral": 2}.get(case, 0)
    )
    if case in READ_BY_TRANSFORMERS:
        tokens = torch.randint(0, TOKENIZER.size - 8, (2, 40))
        theirs = their_logits(file, tokens)
        import_command(file, tmp_path / "again", show=False)
        # bf16 keeps 8 bits of each product; rows of another head differ by the deviation.
        limit = 0.1 if kind == "bf16" else 1e-4
        assert (our_logits(tmp_path / "again", tokens) - theirs).abs().max() < limit * theirs.std()


UNREAD: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "nothing": ("qwen3", QWEN3, []),
    "a rotation": ("llama", {"rope_parameters": LLAMA3_ROPE}, ["model.rope_scaling (llama3) is"]),
    "a window": ("mistral", {"sliding_window": 7}, ["the window of 7 tokens is written"]),
    "a width": ("qwen3", {"head_dim": 16}, ["are 16 wide, which the file says; transformers"]),
}


@pytest.mark.parametrize("case", UNREAD)
def test_what_other_programs_leave_unread_is_said(
    case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a model that is another one in transformers, where nothing tells it."""
    family, options, words = UNREAD[case]
    export_gguf_command(checkpoint_of(tmp_path, family, options), tmp_path / "a.gguf", "bf16")
    said = [one.getMessage() for one in caplog.records if "other_readers" in one.name]
    assert len(said) == len(words) and all(map(str.__contains__, said, words)), said


def test_a_rotation_that_is_not_written_fails_the_parity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control of the proof: the file without its tensor of factors is another model."""
    run = checkpoint_of(tmp_path, "llama", {"rope_parameters": LLAMA3_ROPE})
    whole = exporting.add_rope

    def without_factors(writer: Any, model: Any) -> dict[str, Any]:
        whole(writer, model)
        return {}

    monkeypatch.setattr(exporting, "add_rope", without_factors)
    with pytest.raises(CheckpointError, match="parity fails"):
        export_gguf_command(run, tmp_path / "model.gguf", "fp32")
    assert not list(tmp_path.glob("*.gguf*"))


REFUSED: dict[str, tuple[dict[str, Any], list[str], int, str]] = {
    "dynamic": (
        {"rope_parameters": DYNAMIC_ROPE},
        [],
        3,
        "rope_scaling is dynamic, for which GGUF",
    ),
    "geglu": ({"hidden_act": "gelu"}, [], 3, "model.activation is geglu, and a GGUF file means"),
    "rows": ({"intermediate_size": 40}, ["--dtype", "q8_0"], 2, "have 40; use bf16"),
    "an adapter": ({}, ["--adapter"], 2, "--adapter: belongs to a folder"),
    "shards": ({}, ["--shard-gb", "1"], 2, "--shard-gb: belongs to a folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_file_cannot_hold_is_refused(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a model that becomes another one, an option that is not applied, half a file."""
    options, flags, code, words = REFUSED[case]
    run = checkpoint_of(tmp_path, "llama", {"num_hidden_layers": 1} | options)
    file = tmp_path / "out" / "model.gguf"
    assert main(["export", str(run), str(file), *flags]) == code
    assert words in capsys.readouterr().err
    assert not file.parent.exists() or not list(file.parent.iterdir())


def test_a_file_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an export over another model, below a file, or of a kind that folders do not have."""
    run = checkpoint_of(tmp_path, "llama", {"num_hidden_layers": 1})
    file = tmp_path / "model.GGUF"
    file.write_bytes(b"mine")
    assert main(["export", str(run), str(file)]) == 3 and file.read_bytes() == b"mine"
    assert main(["export", str(run), str(file / "b.gguf")]) == 2
    assert main(["export", str(run), str(tmp_path / "hf"), "--dtype", "q8_0"]) == 2
    errors = capsys.readouterr().err
    for words in ("exists; name a new", "is a file; name another", "belongs to a GGUF file: name"):
        assert words in errors


def test_a_name_in_capitals_is_that_of_a_file(tmp_path: Path) -> None:
    """Catches a folder called X.GGUF, and such a file in a folder that is said to hold no model."""
    run = checkpoint_of(tmp_path, "llama", {"num_hidden_layers": 1})
    file = tmp_path / "made" / "X.GGUF"
    assert main(["export", str(run), str(file)]) == 0
    assert file.read_bytes()[:4] == b"GGUF"
    assert gguf_file(file.parent) == gguf_file(file) == file
    assert gguf_file(tmp_path / "absent.Gguf") is not None
    assert main(["import", str(file.parent), str(tmp_path / "again")]) == 0


def test_parts_in_capitals_are_found(tmp_path: Path) -> None:
    """Catches the second file of a split model looked for in small letters."""
    parts = [tmp_path / f"M-0000{number}-OF-00002.GGUF" for number in (1, 2)]
    for part in parts:
        part.write_bytes(b"GGUF")
    assert gguf_file(tmp_path) == parts[0] and parts_of(parts[0]) == parts
