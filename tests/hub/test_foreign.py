"""Folders of Hugging Face's where a checkpoint is wanted: every verb says what makes one."""

from pathlib import Path

import pytest

from tests.training.runs import recipe_of
from trainer.checkpoint import CheckpointReader, resolve_checkpoint
from trainer.checkpoint.report import diff_command, list_command, prune_command, verify_command
from trainer.errors import CheckpointError, LyceumError, RecipeError
from trainer.hugging_face.adapters import export_adapter_command
from trainer.hugging_face.exporting import export_command
from trainer.recipe.load import load_recipe
from trainer.resume import starting_keys


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf/config.json").write_text("{}")
    return tmp_path / "hf"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora/adapter_config.json").write_text("{}")
    return tmp_path / "lora"


WANT_A_CHECKPOINT = {
    "export": lambda folder: export_command(folder, folder / "out", shard_gb=5, dtype="stored"),
    "export --adapter": lambda folder: export_adapter_command(folder, folder / "out", None),
    "checkpoint ls": list_command,
    "checkpoint prune": lambda folder: prune_command(folder, 1),
    "checkpoint verify": verify_command,
    "checkpoint diff": lambda folder: diff_command(folder, folder),
    "reader": CheckpointReader,
    "resume": lambda folder: resolve_checkpoint(folder),
}


@pytest.mark.parametrize("verb", WANT_A_CHECKPOINT)
def test_a_model_folder_is_called_one(verb: str, model: Path) -> None:
    """Catches "is not complete", which sends its reader to look for a damaged file."""
    with pytest.raises(CheckpointError) as error:
        WANT_A_CHECKPOINT[verb](model)
    line = f"is a Hugging Face model folder: run `lyceum import {model} RUN`, and name that RUN"
    assert line in str(error.value)


def test_init_from_says_so_too(model: Path, adapter: Path, tmp_path: Path) -> None:
    """Catches the one place that reads the model section before any checkpoint is opened."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("run: r\nsteps: 1\nsequence_length: 8\nbatch: {sequences: 1}\n")
    learning = ["optimizer.lr=1e-3", "data.mixture=[{corpus: c}]"]
    for folder, kind in ((model, "is a Hugging Face model folder"), (adapter, "is a LoRA adapter")):
        with pytest.raises(RecipeError, match=kind):
            load_recipe(recipe, [f"init_from={folder}", *learning])
        whole = recipe_of(tmp_path / "run", tmp_path, init_from=str(folder))
        with pytest.raises(LyceumError, match=kind):
            starting_keys(whole)


def test_an_adapter_is_called_one(adapter: Path) -> None:
    """Catches an adapter that is taken for a damaged checkpoint, or for a whole model."""
    (adapter / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"is a LoRA adapter in PEFT's form: .* --base BASE"):
        resolve_checkpoint(adapter)


def test_names_of_the_hub_are_known_and_other_paths_stay(tmp_path: Path) -> None:
    """Catches a hint to the hub for every mistyped path."""
    with pytest.raises(CheckpointError, match="by `lyceum import org/name RUN`"):
        resolve_checkpoint(Path("org/name"))
    with pytest.raises(CheckpointError, match=r"does not exist; name a checkpoint or a run$"):
        resolve_checkpoint(tmp_path / "absent")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="has no complete checkpoint; train it first"):
        resolve_checkpoint(tmp_path)


@pytest.mark.parametrize("verb", WANT_A_CHECKPOINT)
def test_a_file_leads_to_its_folder(verb: str, model: Path, tmp_path: Path) -> None:
    """Catches "does not exist" of a file that is there, as tab completion names one."""
    (model / "model.safetensors").write_bytes(b"")
    (tmp_path / "step").mkdir()
    for name in ("step/checkpoint.json", "notes.txt", "model.gguf"):
        (tmp_path / name).write_text("{}")
    expected = {
        model / "model.safetensors": f"is a file in {model}, which is a Hugging Face model folder:",
        tmp_path / "step/checkpoint.json": "is a file; name its checkpoint's folder, ",
        tmp_path / "notes.txt": "is a file; name a run's folder",
        tmp_path / "model.gguf": f"is a GGUF file: run `lyceum import {tmp_path}/model.gguf RUN`",
    }
    for path, told in expected.items():
        with pytest.raises(CheckpointError) as error:
            WANT_A_CHECKPOINT[verb](path)
        assert told in str(error.value)


def test_a_page_of_the_hub_leads_to_its_name() -> None:
    """Catches an address copied from a browser, of which a path has lost a slash."""
    with pytest.raises(CheckpointError, match="becomes one by `lyceum import org/name@v2 RUN`"):
        resolve_checkpoint(Path("https://huggingface.co/org/name/tree/v2"))
