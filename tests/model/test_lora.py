"""Adapters are PEFT's adapters, and without them the base is the base."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from tests.model.lora import (
    logits_of,
    lora_run_recipe,
    save_base,
    tensors_of,
    train_adapters,
)
from tests.model.test_independence import peer_weights
from tests.parity.lora import wake
from tests.parity.ranks import on_ranks
from tests.parity.training import SEQUENCE, VOCAB, recipe_of
from trainer.checkpoint import CheckpointReader
from trainer.checkpoint.adapted import open_trained, read_merged, saved_recipe
from trainer.checkpoint.state import load_weights
from trainer.errors import CheckpointError, RecipeError
from trainer.hugging_face.adapters import export_adapter_command
from trainer.model.lora import adapters_off
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout, leave
from trainer.parallel.sharding import sharded_parameters
from trainer.recipe import Recipe

SOME = ["q_proj", "model.layers.[12].*.v_proj", "up_proj", "model.layers.3.mlp.down_proj"]
TOKENS = torch.randint(0, VOCAB, (3, SEQUENCE), generator=torch.Generator().manual_seed(0))


def peer_base(reader: Any) -> LlamaForCausalLM:
    """Transformers' model with a base's weights."""
    model = LlamaForCausalLM(
        LlamaConfig(
            **{"vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 128},
            **{"num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2},
            **{"rms_norm_eps": 1e-5, "max_position_embeddings": SEQUENCE},
        )
    )
    ours = {k.removeprefix("model/"): v for k, v in tensors_of(reader, "model/").items()}
    missing, unexpected = model.load_state_dict(peer_weights(ours, 4), strict=False)
    assert not missing and not unexpected
    return model.eval()


def trained_adapters(folder: Path, targets: list[str] | None, **keys: Any) -> Path:
    """A base, and the checkpoint of two steps of adapters on it; `keys` of their recipe."""
    base = save_base(folder / "base")
    keys |= {"lora__targets": targets} if targets else {}
    recipe = lora_run_recipe(base, lora__alpha=6.0, **keys)
    path = train_adapters(recipe, folder / "run", 2)[1]
    assert path is not None
    return path


def our_logits(checkpoint: Path) -> torch.Tensor:
    """Of base and adapters, unmerged."""
    reader = open_trained(checkpoint)
    recipe = saved_recipe(reader)
    layout = create_layout(recipe)
    try:
        chunks = build_model(recipe, VOCAB, layout)
        load_weights(reader, chunks)
        return logits_of(chunks, recipe, TOKENS)
    finally:
        leave()


@pytest.mark.parametrize("targets", [None, SOME], ids=["all", "some"])
def test_peft_gives_our_logits_from_the_exported_adapters(
    tmp_path: Path, targets: list[str] | None
) -> None:
    """Catches a scale, an order of rows or a list of targets that PEFT reads otherwise."""
    path = on_ranks(1, trained_adapters, tmp_path, targets)[0]
    ours = on_ranks(1, our_logits, path)[0]
    folder = export_adapter_command(path, tmp_path / "peft", base="someone/base")
    base = open_trained(path).base
    plain = peer_base(base)
    with torch.no_grad():
        alone = plain(TOKENS).logits
        model = PeftModel.from_pretrained(plain, str(folder))
        theirs = model(TOKENS).logits
    assert (theirs - alone).abs().max() > 1e-2, "adapters that say nothing would agree anyway"
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    adapted = {name for name, _ in model.named_modules() if name.endswith(".lora_A.default")}
    assert len(adapted) == len(load_file(folder / "adapter_model.safetensors")) // 2
    merged = model.merge_and_unload().state_dict()
    for name, tensor in peer_base(read_merged(CheckpointReader(path))).state_dict().items():
        torch.testing.assert_close(tensor, merged[name], atol=1e-6, rtol=0)


def test_peft_knows_every_tensor(tmp_path: Path) -> None:
    """Catches a name that PEFT leaves out in silence, which then starts from zero."""
    path = on_ranks(1, trained_adapters, tmp_path, SOME)[0]
    folder = export_adapter_command(path, tmp_path / "peft", base="someone/base")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "someone/base"
    assert (config["r"], config["lora_alpha"]) == (4, 6.0)
    model = PeftModel.from_pretrained(peer_base(open_trained(path).base), str(folder))
    theirs = {k: v for k, v in model.state_dict().items() if ".lora_" in k}
    saved = load_file(folder / "adapter_model.safetensors")
    assert len(theirs) == len(saved) == 2 * (4 + 2 + 4 + 1)
    for name, tensor in saved.items():
        assert torch.equal(theirs[name.replace(".weight", ".default.weight")], tensor), name


def extended_adapters(folder: Path) -> Path:
    """As `trained_adapters`, on the base under another rotation and a window."""
    return trained_adapters(folder, None, model__window=5, model__rope_theta=50.0)


def test_adapters_of_another_rotation_name_no_published_base(tmp_path: Path) -> None:
    """Catches adapters that PEFT would put on the base as it was published."""
    path = on_ranks(1, extended_adapters, tmp_path)[0]
    with pytest.raises(CheckpointError, match="the run changed its base's rope_theta, windows"):
        export_adapter_command(path, tmp_path / "peft", base="someone/base")
    assert not (tmp_path / "peft").exists()


def test_a_folder_in_use_or_a_whole_model_is_refused(tmp_path: Path) -> None:
    """Catches an export that writes over another, or makes adapters of none."""
    base = on_ranks(1, save_base, tmp_path / "base")[0]
    with pytest.raises(CheckpointError, match="holds all weights and no adapters"):
        export_adapter_command(base, tmp_path / "peft")
    path = on_ranks(1, trained_adapters, tmp_path, None)[0]
    with pytest.raises(RecipeError, match="is there already"):
        export_adapter_command(path, tmp_path)


def base_outputs(recipe: Recipe, plain: Recipe) -> list[torch.Tensor]:
    """One process: the base's logits, the adapted ones, those with adapters off, on again."""
    layout = create_layout(plain)
    base = build_model(plain, VOCAB, layout)
    found = [logits_of(base, plain, TOKENS)]
    chunks = build_model(recipe, VOCAB, layout)
    wake(chunks, layout)
    found.append(logits_of(chunks, recipe, TOKENS))
    with adapters_off(chunks):
        found.append(logits_of(chunks, recipe, TOKENS))
    found.append(logits_of(chunks, recipe, TOKENS))
    leave()
    return found


@pytest.mark.parametrize("targets", [SOME, ["embed_tokens", "lm_head", "o_proj"]], ids=str)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_without_its_adapters_a_model_is_its_base_bit_for_bit(
    precision: str, targets: list[str]
) -> None:
    """Catches a reference model that is not the base, and adapters that stay off."""
    recipe = lora_run_recipe(Path("unused"), precision=precision, lora__targets=targets)
    base, on, off, again = on_ranks(1, base_outputs, recipe, recipe_of(precision=precision))[0]
    assert torch.equal(base, off)
    assert torch.equal(on, again)
    assert (on - off).abs().max() > 1e-3


def first_weights(recipe: Recipe) -> dict[str, torch.Tensor]:
    """One process's first adapters, and what asks for a gradient."""
    layout = create_layout(recipe)
    try:
        chunks = build_model(recipe, VOCAB, layout)
        return {
            sharding.name: parameter.detach().clone()
            for parameter, sharding in sharded_parameters(chunks)
            if parameter.requires_grad
        }
    finally:
        leave()


def test_adapters_begin_as_nothing_and_the_base_is_frozen() -> None:
    """Catches a B that changes the base from the start, and an A that could never learn."""
    weights = on_ranks(1, first_weights, lora_run_recipe(Path("unused")))[0]
    other = on_ranks(1, first_weights, lora_run_recipe(Path("unused"), lora__seed=1))[0]
    assert len(weights) == 4 * 7 * 2
    for name, tensor in weights.items():
        if name.endswith(".B"):
            assert not tensor.any(), name
            continue
        bound = tensor.shape[1] ** -0.5
        assert 0.9 * bound < tensor.abs().max() <= bound, name
        assert tensor.std() == pytest.approx(bound / 3**0.5, rel=0.15), name
        assert not torch.equal(tensor, other[name]), "lora.seed changes nothing"


def test_a_checkpoint_of_adapters_holds_nothing_of_the_base(tmp_path: Path) -> None:
    """Catches a base that is written out with every checkpoint."""
    path = on_ranks(1, trained_adapters, tmp_path, None)[0]
    reader = CheckpointReader(path)
    assert reader.keys() and all(".adapters." in key for key in reader.keys())  # noqa: SIM118
    assert len(reader.keys()) == 3 * 4 * 7 * 2
