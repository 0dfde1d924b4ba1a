"""What cannot be converted is refused in one line that says what, where, and the mend."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.hugging_face.models import make_model, tensors_of
from trainer.cli import main
from trainer.data.tokenizer import train_tokenizer
from trainer.errors import CheckpointError, DataError, LyceumError, RecipeError
from trainer.hugging_face.config import describe, read_config
from trainer.hugging_face.config_writing import config_of
from trainer.hugging_face.exporting import export_command
from trainer.hugging_face.importing import import_command
from trainer.hugging_face.reading import ModelFolder
from trainer.recipe.model import ModelSection, RopeScaling

INDEX = "model.safetensors.index.json"
PARTS = {"rope_type": "proportional", "rope_theta": 1e4, "factor": 2.0}
SHORT = {"rope_type": "longrope", "original_max_position_embeddings": 16, "factor": 2.0}
SHORT |= {"rope_theta": 1e4, "short_factor": [1.0] * 7, "long_factor": [2.0] * 7}
TEXT = {"rope_type": "linear", "rope_theta": 1e4, "factor": "4"}
PARTLY = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "model"
    make_model(folder, "llama", {})
    return folder


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(published, tmp_path / "model"))


def refused(folder: Path, kind: type[LyceumError] = CheckpointError) -> str:
    """The one line; nothing is left of the attempt."""
    target = folder.with_name("run")
    with pytest.raises(kind) as caught:
        import_command(folder, target)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 400, line
    assert not target.exists() and not target.with_name("run.partial").exists()
    return line


def edit(path: Path, change: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "mixtral"}, "model_type is 'mixtral'"),
        ({"model_type": None}, "model_type is None"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "it has another head"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is set"),
        ({"auto_map": {"AutoModel": "own.Model"}}, "auto_map is set"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"attention_bias": True}, "attention_bias is true"),
        ({"mlp_bias": True}, "mlp_bias is true"),
        ({"rope_parameters": PARTS}, "the rope type is 'proportional'"),
        ({"rope_parameters": SHORT}, "short_factors: 7 numbers, and longrope needs one each of 8"),
        ({"sliding_window": 8}, "sliding_window is 8, which transformers' llama applies to its"),
        ({"layer_types": ["sliding_attention"] * 3}, "names layers of another kind"),
        ({"rope_parameters": PARTLY}, "partial_rotary_factor is 0.5"),
        ({"num_attention_heads": "many"}, "is not a llama configuration"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0, and a model has at least 1"),
        ({"num_key_value_heads": 3}, "num_attention_heads is 4, not a multiple of num_key_value"),
        ({"rms_norm_eps": 0.0}, "rms_norm_eps is 0.0"),
        ({"rms_norm_eps": float("inf")}, "rms_norm_eps is inf"),
        ({"head_dim": -4}, "head_dim is -4"),
        ({"rope_parameters": None, "rope_theta": None}, "rope_theta is None"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": "10000"}}, "is '10000'"),
        ({"rope_parameters": TEXT}, "type linear are damaged (factor is '4': input should be a"),
        ({"hidden_size": 96}, "has shape"),
        ({"num_hidden_layers": 4}, "holds no model.layers.3"),
        ({"num_hidden_layers": 2}, "holds model.layers.2"),
        ({"tie_word_embeddings": True}, "holds lm_head.weight"),
    ],
    ids=lambda value: next(iter(value), None) if isinstance(value, dict) else "",
)
def test_a_model_that_is_not_computed_is_refused(
    folder: Path, change: dict[str, Any], words: str
) -> None:
    """Catches a model that would be taken in and compute something else."""
    edit(folder / "config.json", change)
    assert words in refused(folder)


def test_ministral_sees_as_its_layer_types_say() -> None:
    """Catches a window that layers of full attention get too, or none where all have it."""
    keys: dict[str, Any] = {"model_type": "ministral", "sliding_window": 16, "head_dim": 32}

    def windows(**changes: Any) -> tuple[int | None, ...]:
        sizes = {"num_hidden_layers": 4, "max_position_embeddings": 64}
        return describe(json.dumps(keys | sizes | changes).encode(), "config.json").model.windows

    assert windows() == (16,) * 4
    types = ["full_attention", *["sliding_attention"] * 3]
    assert windows(layer_types=types) == (None, 16, 16, 16)
    assert windows(layer_types=["full_attention"] * 4) == (None,) * 4
    with pytest.raises(CheckpointError, match="computes no ministral without a window"):
        windows(sliding_window=None)
    with pytest.raises(CheckpointError, match="head_dim is None, with which transformers makes no"):
        windows(head_dim=None)


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_windows_are_those_of_transformers(family: str) -> None:
    """Catches layers that would see further than in transformers, or less far."""
    keys: dict[str, Any] = {"model_type": family, "use_sliding_window": True}
    keys |= {"sliding_window": 16, "max_position_embeddings": 64, "num_hidden_layers": 6}

    def windows(**changes: Any) -> tuple[tuple[int | None, ...], Any]:
        described = describe(json.dumps(keys | changes).encode(), "config.json")
        assert described.sequence_length == 64
        return described.model.windows, described.model.window_pattern

    assert windows(max_window_layers=0) == ((16,) * 6, None)
    late = ("global", "global", "local", "local", "local", "local")
    assert windows(max_window_layers=2) == ((None, None, 16, 16, 16, 16), late)
    types = ["sliding_attention", "full_attention", "full_attention"] * 2
    assert windows(layer_types=types)[1] == ("local", "global", "global")
    for unused in ({"max_window_layers": 6}, {"use_sliding_window": False}):
        assert windows(**unused) == ((None,) * 6, None)
    with pytest.raises(CheckpointError, match="layer_types names chunked_attention"):
        windows(layer_types=["chunked_attention"] * 6)
    with pytest.raises(CheckpointError, match="names sliding_attention, and there is no window"):
        windows(use_sliding_window=False, layer_types=["sliding_attention"] * 6)
    with pytest.raises(CheckpointError, match="sliding_window is 0; set it to null"):
        windows(sliding_window=0)


def test_older_keys_say_the_same(folder: Path) -> None:
    """Catches folders saved before rope_parameters read without their scaling."""
    keys = json.loads((folder / "config.json").read_text())
    del keys["rope_parameters"]
    scaling = {
        **{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0},
        **{"high_freq_factor": 4.0, "original_max_position_embeddings": 16},
    }
    keys |= {"rope_theta": 5e5, "rope_scaling": scaling}
    (folder / "config.json").write_text(json.dumps(keys))
    model = read_config(folder)[0].model
    assert model.rope_theta == 5e5
    assert model.rope_scaling == RopeScaling(factor=8.0, original_context=16)
    keys["rope_scaling"] = {"type": "linear", "factor": 2.0}
    linear = describe(json.dumps(keys).encode(), "").model.rope_scaling
    assert linear == RopeScaling(type="linear", factor=2.0)


def missing_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def missing_shard(folder: Path) -> None:
    next(folder.glob("*00002-of*.safetensors")).unlink()


def truncated_shard(folder: Path) -> None:
    path = next(folder.glob("*00002-of*.safetensors"))
    path.write_bytes(path.read_bytes()[:-10])


def broken_index(folder: Path) -> None:
    (folder / INDEX).write_text("[]")


def index_leads_out(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    shutil.copy(next(folder.glob("*.safetensors")), folder.parent / "outside.safetensors")
    index["weight_map"]["lm_head.weight"] = "../outside.safetensors"
    (folder / INDEX).write_text(json.dumps(index))


def index_is_wrong(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["model.more"] = index["weight_map"]["lm_head.weight"]
    (folder / INDEX).write_text(json.dumps(index))


def index_is_short(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    del index["weight_map"]["model.norm.weight"]
    (folder / INDEX).write_text(json.dumps(index))


def one_file(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = tensors_of(folder)
    change(tensors)
    for file in [*folder.glob("*.safetensors"), folder / INDEX]:
        file.unlink()
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "model.safetensors")


def pickled(folder: Path) -> None:
    one_file(folder, lambda tensors: None)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_weights(folder: Path) -> None:
    one_file(folder, lambda tensors: None)
    (folder / "model.safetensors").unlink()


def bare(folder: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["lm_head.weight"]
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name)

    one_file(folder, change)


def extra_bias(folder: Path) -> None:
    name = "model.layers.0.self_attn.q_proj.bias"
    one_file(folder, lambda tensors: tensors.update({name: torch.zeros(64)}))


def integers(folder: Path) -> None:
    weight = torch.zeros(64, dtype=torch.int8)
    one_file(folder, lambda tensors: tensors.update({"model.norm.weight": weight}))


def mixed(folder: Path) -> None:
    name = "model.layers.1.self_attn.k_proj.weight"
    one_file(folder, lambda tensors: tensors.update({name: tensors[name].half()}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (missing_config, "config.json cannot be read"),
        (broken_config, "config.json is damaged"),
        (missing_shard, "is missing"),
        (truncated_shard, "is damaged"),
        (broken_index, "is damaged"),
        (index_leads_out, "not a file of this folder"),
        (index_is_wrong, "holds no model.more"),
        (index_is_short, "holds model.norm.weight, of which"),
        (pickled, "only pickled weights (pytorch_model.bin)"),
        (no_weights, "holds neither model.safetensors nor"),
        (bare, "lack the prefix model."),
        (extra_bias, "holds model.layers.0.self_attn.q_proj.bias"),
        (integers, "is of type I8"),
        (mixed, "of different types"),
    ],
)
def test_a_damaged_folder_is_refused(
    folder: Path, damage: Callable[[Path], None], words: str
) -> None:
    """Catches a model taken in with a part of it missing, or from where it should not be read."""
    damage(folder)
    assert words in refused(folder)


def test_a_missing_or_foreign_tokenizer_is_refused(folder: Path) -> None:
    """Catches ids that have no row in the embedding."""
    train_tokenizer([f"word{n} other{n}" for n in range(99)], 400).save(folder)
    assert "embedding" in refused(folder)
    (folder / "tokenizer.json").unlink()
    assert "tokenizer.json" in refused(folder, DataError)


def test_what_is_there_already_stays(folder: Path, tmp_path: Path) -> None:
    """Catches a run, or what a failed conversion left, overwritten."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").touch()
    with pytest.raises(CheckpointError, match="exists and is not empty"):
        import_command(folder, tmp_path / "run")
    (tmp_path / "other.partial").mkdir()
    with pytest.raises(CheckpointError, match="left from an earlier conversion"):
        import_command(folder, tmp_path / "other")
    assert (tmp_path / "run" / "precious").exists() and (tmp_path / "other.partial").exists()


def test_an_export_of_nothing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a trace instead of a line; a checkpoint error ends with exit code 3."""
    with pytest.raises(CheckpointError, match="does not exist"):
        export_command(tmp_path / "none", tmp_path / "out")
    assert main(["export", str(tmp_path / "none"), str(tmp_path / "out")]) == 3
    assert main(["import", str(tmp_path / "none"), str(tmp_path / "run")]) == 3
    assert main(["export", "none", "out", "--dtype", "int8"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.startswith("lyceum: error: ") for line in lines)


def test_a_target_below_a_file_is_refused_and_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches "what is there is incomplete: remove it" of a folder that was never made."""
    file = folder / "config.json"
    for target in (file / "x", file / "x" / "y"):
        with pytest.raises(RecipeError, match=r"config.json is a file; name another folder"):
            import_command(folder, target)
    run = tmp_path / "run"
    import_command(folder, run)
    before = sorted(tmp_path.rglob("*"))
    assert main(["export", str(run), str(file / "x")]) == 2

    def read_only(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(RecipeError, match=r"out: cannot be made: Permission denied; name another"):
        export_command(run, tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before


def test_tied_weights_may_be_stored_twice(tmp_path: Path) -> None:
    """Catches both: a copy that is refused, and another matrix that is taken for a copy."""
    make_model(tmp_path / "tied", "llama", {"tie_word_embeddings": True})
    name, original = "lm_head.weight", "model.embed_tokens.weight"

    def twice(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = tensors[original].clone()

    one_file(tmp_path / "tied", twice)
    assert ModelFolder(tmp_path / "tied").drop_copy(name, original)
    tensors = load_file(tmp_path / "tied" / "model.safetensors")
    tensors[name][-1, -1] += 1
    save_file(tensors, tmp_path / "tied" / "model.safetensors")
    assert not ModelFolder(tmp_path / "tied").drop_copy(name, original)
    assert "holds lm_head.weight" in refused(tmp_path / "tied")


def test_the_family_follows_from_the_model() -> None:
    """Catches a config.json of a family that computes something else."""
    tokenizer = train_tokenizer(["a text"] * 3, 260)
    sizes = {"layers": 1, "hidden": 32, "heads": 4, "ffn": 8, "vocab": 11}

    def family(**keys: Any) -> str:
        model = ModelSection.model_validate(sizes | keys)
        made = config_of(model, 64, torch.float32, tokenizer)
        told = describe(json.dumps(made).encode(), "config.json")
        again = told.model.model_copy(update={"kv_heads": model.kv_heads})
        usual = {"head_size": model.head_size, "rope_angles": model.rope_angles}
        assert again.model_copy(update=usual) == model and told.sequence_length == 64
        assert again.head_width == model.head_width
        return told.family

    assert family() == "llama"
    assert family(head_size=24, tied_embeddings=True) == "llama"
    assert family(heads=5, head_size=8) == "mistral"
    assert family(qkv_bias=True, norm_eps=1e-6) == "qwen2"
    assert family(qk_norm=True, rope_theta=1e6) == "qwen3"
    assert family(rope_scaling={"factor": 4.0, "original_context": 32}) == "llama"
    assert family(rope_scaling={"type": "linear", "factor": 4.0}) == "llama"
    with pytest.raises(CheckpointError, match="belong to no family"):
        family(qkv_bias=True, qk_norm=True)
    assert family(window=16) == "mistral"
    assert family(activation="geglu") == "llama"
    assert family(padding_token=3) == "llama"
    assert family(activation="geglu_tanh", window=16, qk_norm=True) == "qwen3"
    mixed: dict[str, Any] = {"layers": 3, "window": 16, "window_pattern": ("global", "local")}
    assert family(**mixed, qkv_bias=True) == "qwen2"
    assert family(**mixed) == "ministral"
    for strange in (
        *({"norm": "layer"}, {"zero_centered_norms": True}, {"rope_interleaved": True}),
        *({"attention_scale": 0.5}, {"softmax": "off_by_one"}),
    ):
        with pytest.raises(CheckpointError, match=f"model.{next(iter(strange))}: belongs to no"):
            family(**strange)


def test_a_shard_has_a_size(tmp_path: Path) -> None:
    """Catches a file a tensor, or an endless loop."""
    from trainer.hugging_face.exporting import export_weights

    unread: Any = None  # the size is looked at first
    with pytest.raises(RecipeError, match="no size"):
        export_weights(unread, unread, tmp_path / "out", shard_gb=0.0)
