"""Into a checkpoint and out again: the same numbers, the same files, the same text."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.hugging_face.models import CASES, make_model, our_texts, tensors_of, their_texts
from tests.parity.ranks import on_ranks
from trainer.checkpoint import CheckpointReader, latest_checkpoint, resolve_checkpoint
from trainer.hugging_face.weights import CheckpointWeights
from trainer.recipe import Recipe

SAME_BYTES = (
    *("config.json", "generation_config.json", "chat_template.jinja", "LICENSE"),
    *("tokenizer.json", "tokenizer_config.json", "additional_chat_templates/tool_use.jinja"),
)
WRITING = [name for name, (_, _, dtype) in CASES.items() if dtype == "float32"]
"""In half precision the two implementations round differently on the way."""


def journey(root: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """Make, import, write, export and write again; the texts of each case by who wrote them."""
    from trainer.hugging_face.exporting import export_command
    from trainer.hugging_face.importing import import_command

    texts: dict[str, dict[str, Any]] = {}
    for name in names:
        family, options, dtype = CASES[name]
        place = root / name.replace(" ", "-")
        make_model(place / "published", family, options, dtype)
        import_command(place / "published", place / "run")
        export_command(place / "run", place / "exported", shard_gb=1.3e-4)
        if name in WRITING:
            texts[name] = {
                "published": their_texts(place / "published"),
                "ours": our_texts(place / "run"),
                "exported": their_texts(place / "exported"),
            }
    return texts


@pytest.fixture(scope="module")
def travelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folders of every case below one, and the texts."""
    root = tmp_path_factory.mktemp("journey")
    return root, on_ranks(1, journey, root, list(CASES))[0]


Travelled = tuple[Path, dict[str, Any]]


@pytest.mark.parametrize("name", CASES)
def test_a_round_trip_is_bitwise(travelled: Travelled, name: str) -> None:
    """Catches a row in a wrong place that another wrong place undoes, a cast, a lost tensor."""
    place = travelled[0] / name.replace(" ", "-")
    before, after = tensors_of(place / "published"), tensors_of(place / "exported")
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        assert tensor.dtype == after[key].dtype == getattr(torch, CASES[name][2]), key
        assert tensor.shape == after[key].shape, key
        assert torch.equal(tensor.view(torch.uint8), after[key].view(torch.uint8)), key


@pytest.mark.parametrize("name", CASES)
def test_the_files_beside_the_weights_come_back(travelled: Travelled, name: str) -> None:
    """Catches a tokenizer, template, generation config or licence that is lost or rewritten."""
    place = travelled[0] / name.replace(" ", "-")
    for file in SAME_BYTES:
        same = (place / "published" / file).read_bytes() == (place / "exported" / file).read_bytes()
        assert same, file
    assert len(list((place / "exported").glob("model-*.safetensors"))) > 1
    assert not list(place.glob("*.partial"))


@pytest.mark.parametrize("name", WRITING)
def test_both_write_the_same_text(travelled: Travelled, name: str) -> None:
    """Catches another start of a text, another end, or a model that is only nearly the same."""
    texts = travelled[1][name]
    assert texts["ours"] == texts["published"] == texts["exported"]
    assert len({tuple(text) for text in texts["ours"]}) > 1, "one text for all proves little"


def test_an_imported_model_is_found_like_a_trained_one(travelled: Travelled) -> None:
    """Catches a checkpoint that `generate`, `init_from` or `checkpoint ls` do not find."""
    run = travelled[0] / "llama" / "run"
    folder = resolve_checkpoint(run)
    assert folder == latest_checkpoint(run) == run / "checkpoints" / "step-00000000"
    reader = CheckpointReader(folder)
    reader.verify()
    recipe = Recipe.from_yaml(reader.attachment("recipe.yaml").decode())
    assert recipe.run == str(run) and recipe.precision == "fp32"
    assert reader.model == recipe.model.model_dump(mode="json")


@pytest.mark.parametrize("name", ["llama fp16", "mistral bf16"])
def test_half_precision_weights_are_kept_as_they_are(travelled: Travelled, name: str) -> None:
    """Catches weights widened or narrowed on the way in."""
    reader = CheckpointReader(resolve_checkpoint(travelled[0] / name.replace(" ", "-") / "run"))
    weights = CheckpointWeights(reader)
    assert set(map(weights.dtype, weights.keys())) == {getattr(torch, CASES[name][2])}
    assert "precision: bf16" in reader.attachment("recipe.yaml").decode()


def test_a_window_stays_a_window(travelled: Travelled) -> None:
    """Catches a model that reads further than its sliding window, where transformers forgets."""
    reader = CheckpointReader(resolve_checkpoint(travelled[0] / "mistral" / "run"))
    recipe = reader.attachment("recipe.yaml").decode()
    assert "sequence_length: 64" in recipe and "window: 6" in recipe


def test_the_index_is_what_transformers_writes(travelled: Travelled) -> None:
    """Catches a total or a place that another reader would trust."""
    place = travelled[0] / "llama"
    index = json.loads((place / "exported" / "model.safetensors.index.json").read_text())
    tensors = tensors_of(place / "exported")
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())
    assert index["weight_map"].keys() == tensors.keys()
    for file in set(index["weight_map"].values()):
        assert (place / "exported" / file).stat().st_size < 1.3e5 + 5000 or file.count("00001-of")
