"""Adapters that PEFT made come in with PEFT's logits, and go out with PEFT's tensors."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.hugging_face.models import make_model
from tests.model.lora import logits_of
from tests.parity.ranks import on_ranks
from trainer.checkpoint import CheckpointReader, resolve_checkpoint
from trainer.checkpoint.adapted import saved_recipe, saved_tokenizer
from trainer.cli import main
from trainer.data.tokenizer import train_tokenizer
from trainer.errors import CheckpointError, LyceumError
from trainer.evaluate.opened import open_model
from trainer.gguf.exporting import export_gguf_command
from trainer.hugging_face.adapter_import import import_adapter_command
from trainer.hugging_face.adapters import export_adapter_command
from trainer.hugging_face.exporting import export_command
from trainer.hugging_face.importing import import_command

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

TOLERANCE = 1e-5
TOKENS = torch.randint(0, 280, (2, 48), generator=torch.Generator().manual_seed(0))
FEW = {"r": 4, "lora_alpha": 6}
SAVED = ["embed_tokens", "lm_head"]

CASES: dict[str, dict[str, Any]] = {
    "some": {"target_modules": ["q_proj", "v_proj", "down_proj"]},
    "patterns": {
        **{"target_modules": "all-linear", "use_rslora": True},
        "rank_pattern": {"q_proj": 8, r"layers\.1\..*down_proj": 2},
        "alpha_pattern": {r"model\.layers\.[02]\..*gate_proj": 5},
    },
    "regex": {"target_modules": r".*\.[12]\..*(q|up)_proj|lm_head", "fan_in_fan_out": True},
    "layers": {
        **{"target_modules": ["q_proj", "o_proj", "up_proj"], "exclude_modules": ["o_proj"]},
        **{"layers_to_transform": [0, 2], "layers_pattern": "layers"},
    },
    "tables": {"target_modules": ["k_proj", "embed_tokens", "lm_head"]},
    "whole": {"target_modules": ["q_proj"], "modules_to_save": [*SAVED, "norm", "o_proj"]},
    "blocks whole": {
        **{"target_modules": r".*\.[01]\..*q_proj", "modules_to_save": ["layers.2", "0.mlp"]}
    },
    "embedding alone": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "kept tied": {
        **{"target_modules": ["v_proj"], "modules_to_save": ["embed_tokens"]},
        "ensure_weight_tying": True,
    },
}
UNTIED = ("patterns", "regex", "layers", "tables", "whole", "blocks whole")
TIED = ("tables", "embedding alone", "kept tied")
BOTH = [("untied", case) for case in UNTIED] + [("tied", case) for case in TIED]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A published model and its import, run/; tied and untied."""
    found = {name: tmp_path_factory.mktemp(name) for name in ("untied", "tied")}
    for name, folder in found.items():
        # Weights so small that logits are, and rounding with them.
        options = {"tie_word_embeddings": name == "tied", "head_dim": 8, "initializer_range": 0.05}
        make_model(folder / "published", "qwen3", options)
        import_command(folder / "published", folder / "run")
    return found


def published_adapter(published: Path, folder: Path, **config: Any) -> torch.Tensor:
    """Save an adapter that PEFT made, every weight of it noisy; returns its logits."""
    torch.manual_seed(5)
    model = get_peft_model(load(published), LoraConfig(task_type="CAUSAL_LM", **FEW | config))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.eval().save_pretrained(folder)
        return model(TOKENS).logits


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def our_logits(run: Path) -> torch.Tensor:
    """Of base and adapters, unmerged."""
    with open_model(run, 1) as model:
        return logits_of(model.chunks, model.recipe, TOKENS)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model.eval()(TOKENS).logits
    return found


@pytest.mark.parametrize(("tied", "case"), BOTH)
def test_an_adapter_comes_in_and_goes_out_as_peft_has_it(
    bases: dict[str, Path], tmp_path: Path, tied: str, case: str
) -> None:
    """Catches a module, a rank, a scale or a row meant otherwise, unmerged and merged; a base that
    AutoPeft cannot find; and tensors that a way in and out changes.
    """
    base = bases[tied]
    theirs = published_adapter(base / "published", tmp_path / "peft", **CASES[case])
    plain = logits(load(base / "published"))
    assert (theirs - plain).abs().max() > 1e-2, "adapters that say nothing would agree anyway"
    import_adapter_command(tmp_path / "peft", tmp_path / "run", base / "run")
    ours = on_ranks(1, our_logits, tmp_path / "run")[0]
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)
    export_command(tmp_path / "run", tmp_path / "merged")
    torch.testing.assert_close(logits(load(tmp_path / "merged")), theirs, atol=TOLERANCE, rtol=0)
    export_adapter_command(tmp_path / "run", tmp_path / "out")
    again = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    torch.testing.assert_close(logits(again), theirs, atol=TOLERANCE, rtol=0)
    file = "adapter_model.safetensors"
    given, written = (load_file(tmp_path / folder / file) for folder in ("peft", "out"))
    beside = {name for name in given if "base_layer" in name}
    assert given.keys() - beside == written.keys(), "but for PEFT's copy of the base's table"
    assert all(torch.equal(given[name], written[name]) for name in written)
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == 280
    assert (tmp_path / "out" / "chat_template.jinja").read_text()


def test_what_went_out_comes_in_again(plain: Path, tmp_path: Path) -> None:
    """Catches a folder of ours that we read otherwise than we wrote it."""
    published_adapter(plain / "published", tmp_path / "peft", **CASES["whole"])
    import_adapter_command(tmp_path / "peft", tmp_path / "run", plain / "run")
    export_adapter_command(tmp_path / "run", tmp_path / "out")
    import_adapter_command(tmp_path / "out", tmp_path / "second")
    export_adapter_command(tmp_path / "second", tmp_path / "third", "someone/base")
    file = "adapter_model.safetensors"
    written, third = (load_file(tmp_path / folder / file) for folder in ("out", "third"))
    assert third.keys() == written.keys()
    assert all(torch.equal(third[name], written[name]) for name in third)
    configs = [
        json.loads((tmp_path / folder / "adapter_config.json").read_text())
        for folder in ("out", "third")
    ]
    assert configs[0] | {"base_model_name_or_path": "someone/base"} == configs[1]


@pytest.mark.parametrize("base", ["published", "base.gguf"])
def test_a_model_of_another_program_is_a_base_too(plain: Path, tmp_path: Path, base: str) -> None:
    """Catches a base that only our own checkpoints can be, and one that a move loses."""
    theirs = published_adapter(plain / "published", tmp_path / "peft", **CASES["some"])
    folder = plain
    if base == "base.gguf":
        folder = tmp_path
        export_gguf_command(plain / "run", folder / base, "fp32")
    import_adapter_command(tmp_path / "peft", tmp_path / "run", folder / base)
    (tmp_path / "run").rename(tmp_path / "moved")
    ours = on_ranks(1, our_logits, tmp_path / "moved")[0]
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_tensors_keep_their_type_beside_a_bf16_base(tmp_path: Path, dtype: str) -> None:
    """Catches adapters that are rounded on their way, and a proof that rounding makes fail."""
    make_model(tmp_path / "published", "llama", {}, "bfloat16")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "published", dtype=torch.bfloat16)
    config = LoraConfig(task_type="CAUSAL_LM", **FEW, **CASES["some"], init_lora_weights=False)
    model = get_peft_model(model, config, autocast_adapter_dtype=False)
    model.to(getattr(torch, dtype)).save_pretrained(tmp_path / "peft")
    import_adapter_command(tmp_path / "peft", tmp_path / "run", tmp_path / "published")
    export_adapter_command(tmp_path / "run", tmp_path / "out", "someone/base")
    file = "adapter_model.safetensors"
    given, written = (load_file(tmp_path / folder / file) for folder in ("peft", "out"))
    assert all(values.dtype == getattr(torch, dtype) for values in written.values())
    assert given.keys() == written.keys()
    assert all(torch.equal(given[name], written[name]) for name in given)


def test_peft_loads_what_went_out_beside_a_named_base(plain: Path, tmp_path: Path) -> None:
    """Catches a folder that is right beside our own base alone."""
    theirs = published_adapter(plain / "published", tmp_path / "peft", **CASES["patterns"])
    import_adapter_command(tmp_path / "peft", tmp_path / "run", plain / "run")
    export_adapter_command(tmp_path / "run", tmp_path / "out", str(plain / "published"))
    assert not (tmp_path / "out" / "base").exists()
    model = PeftModel.from_pretrained(load(plain / "published"), tmp_path / "out")
    torch.testing.assert_close(logits(model), theirs, atol=TOLERANCE, rtol=0)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published model, its import, and an adapter on it."""
    folder = tmp_path_factory.mktemp("plain")
    make_model(folder / "published", "qwen2", {"initializer_range": 0.05})
    import_command(folder / "published", folder / "run")
    published_adapter(folder / "published", folder / "peft", **CASES["some"])
    return folder


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another method": ({"peft_type": "IA3"}, 'peft_type is "IA3", and LORA alone'),
    "another task": ({"task_type": "SEQ_CLS"}, 'task_type is "SEQ_CLS"'),
    "dora": ({"use_dora": True}, "use_dora is true, which is not computed"),
    "biases": ({"bias": "lora_only"}, 'bias is "lora_only"'),
    "lora biases": ({"lora_bias": True}, "lora_bias is true"),
    "copied layers": ({"layer_replication": [[0, 2]]}, "layer_replication is"),
    "tokens alone": ({"trainable_token_indices": [3]}, "trainable_token_indices is"),
    "an invocation": ({"alora_invocation_tokens": [3]}, "alora_invocation_tokens is"),
    "a changed base": ({"init_lora_weights": "pissa_niter_4"}, "changes the base's own weights"),
    "a base changed by gradients": ({"init_lora_weights": "lora_ga"}, "changes the base's own"),
    "a frozen B": ({"init_lora_weights": "mica"}, 'is "mica", which is not computed'),
    "what comes after us": ({"use_tomorrow": 2}, "use_tomorrow is 2, which is not computed"),
    "no targets": ({"target_modules": None}, "target_modules is None"),
    "a broken pattern": ({"target_modules": "q_proj("}, "is no regular expression"),
    "more targets": ({"target_modules": ["q_proj", "v_proj"]}, "does not adapt in this base"),
    "fewer tensors": ({"target_modules": "all-linear"}, "holds no lora_A of model.layers.0"),
    "another rank": ({"r": 5}, "asks for"),
    "no alpha": ({"lora_alpha": 0}, "lora_alpha of model.layers.0"),
    "a broken rank": ({"r": 4.0}, "is 4.0, and no whole number above 0"),
    "a list of ranks": ({"rank_pattern": ["q_proj"]}, "and not an object of numbers by name"),
    "a broken pattern of ranks": ({"rank_pattern": {"(": 4}}, "rank_pattern is no regular"),
    "a number for names": ({"exclude_modules": 3}, "exclude_modules is 3, and not a list of names"),
    "a text for layers": ({"layers_to_transform": "0"}, "and not a layer's number"),
    "a text for true": ({"use_rslora": "true"}, 'use_rslora is "true", and not true or false'),
    "what was not saved": ({"modules_to_save": ["lm_head"]}, "names lm_head, of which"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_computed_is_refused_by_name(plain: Path, tmp_path: Path, case: str) -> None:
    """Catches an adapter that comes in with another meaning, and a run that is left half made."""
    changed, line = REFUSED[case]
    shutil.copytree(plain / "peft", tmp_path / "peft")
    path = tmp_path / "peft" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(CheckpointError) as error:
        import_adapter_command(tmp_path / "peft", tmp_path / "run", plain / "run")
    assert line in str(error.value) and "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["peft"]


def test_a_strange_or_missing_file_is_refused(plain: Path, tmp_path: Path) -> None:
    """Catches pickles, another base's tensors and a base that is not there."""
    tensors = load_file(plain / "peft" / "adapter_model.safetensors")
    shutil.copytree(plain / "peft", tmp_path / "peft")

    def refused(base: Path | None = plain / "run", **more: torch.Tensor) -> str:
        save_file(tensors | more, tmp_path / "peft" / "adapter_model.safetensors")
        with pytest.raises(LyceumError) as error:
            import_adapter_command(tmp_path / "peft", tmp_path / "run", base)
        return str(error.value)

    name = "base_model.model.model.layers.0.self_attn.q_proj"
    assert "lora_magnitude_vector" in refused(**{f"{name}.lora_magnitude_vector": torch.ones(3)})
    assert "has shape" in refused(**{f"{name}.lora_A.weight": torch.ones(4, 63)})
    assert "modules_to_save does not name" in refused(
        **{"base_model.model.model.norm.weight": torch.ones(64)}
    )
    other = {"base_model.model.score.weight": torch.ones(2, 64)}
    assert "holds score whole" in refused(**other)
    rows = {"base_model.model.lm_head.weight": torch.ones(300, 64)}
    assert "other numbers of rows" in refused(**rows)
    for misnamed in (f"{name}.lora_A.default.weight", "model.layers.0.mlp.up_proj.lora_B.weight"):
        assert "not as PEFT names it" in refused(**{misnamed: torch.ones(4, 64)})
    deeper = {
        "base_model.model.model.language.layers.0.mlp.up_proj.lora_A.weight": torch.ones(4, 64)
    }
    assert "holds base_model.model.model.language" in refused(**deeper)
    config = tmp_path / "peft" / "adapter_config.json"
    keys = json.loads(config.read_text()) | {"base_model_name_or_path": "someone/base"}
    config.write_text(json.dumps(keys))
    assert "someone/base" in refused(None) and "--base" in refused(None)
    (tmp_path / "peft" / "adapter_model.safetensors").rename(tmp_path / "peft/adapter_model.bin")
    with pytest.raises(CheckpointError, match="pickle could run code"):
        import_adapter_command(tmp_path / "peft", tmp_path / "run", plain / "run")


def test_options_that_would_mean_nothing_are_refused(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches an option that is passed over in silence."""
    run, out = str(plain / "run"), str(tmp_path / "out")
    for more in ([], ["--base", run]):
        assert main(["import", str(plain), out, *more]) == 3
    assert capsys.readouterr().err.count(f"{plain}/peft, {plain}/published") == 2
    for words, line in (
        (["export", run, out, "--base", "someone/base"], "--base: belongs to --adapter"),
        (["export", run, out, "--adapter", "--dtype", "bf16"], "--dtype: adapters are written"),
        (["import", str(plain / "published"), out, "--base", run], "holds no adapter_config.json"),
    ):
        assert main(words) == 2
        assert line in capsys.readouterr().err


RESIZED = {"trained": SAVED, "as it was resized": None}


@pytest.mark.parametrize("saved", RESIZED)
def test_a_resized_base_comes_in_with_its_rows(
    plain: Path, tmp_path: Path, saved: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches rows of added tokens that are lost: PEFT saves the whole tables then, unnamed, and
    those that train under two names, beside what they stand for.
    """
    model = load(plain / "published")
    model.resize_token_embeddings(284)
    config = LoraConfig(task_type="CAUSAL_LM", **FEW, **CASES["some"])
    config.modules_to_save = RESIZED[saved]
    model = get_peft_model(model, config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "peft")
    names = load_file(tmp_path / "peft" / "adapter_model.safetensors").keys()
    assert any("original_module" in name for name in names) == (saved == "trained")
    theirs = logits(model)
    import_adapter_command(tmp_path / "peft", tmp_path / "run", plain / "run")
    recipe = saved_recipe(CheckpointReader(resolve_checkpoint(tmp_path / "run")))
    assert recipe.model.vocab == 284
    assert ("trains them too" in capsys.readouterr().out.replace("\n", " ")) == (saved != "trained")
    ours = on_ranks(1, our_logits, tmp_path / "run")[0]
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)
    export_adapter_command(tmp_path / "run", tmp_path / "out")
    again = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    torch.testing.assert_close(logits(again), theirs, atol=TOLERANCE, rtol=0)


def test_what_trains_whole_need_not_have_learned(plain: Path, tmp_path: Path) -> None:
    """Catches modules_to_save that a run would go on without, as their weights are the base's."""
    model = load(plain / "published")
    config = LoraConfig(task_type="CAUSAL_LM", **FEW, **CASES["some"], modules_to_save=SAVED)
    get_peft_model(model, config).save_pretrained(tmp_path / "peft")
    import_adapter_command(tmp_path / "peft", tmp_path / "run", plain / "run")
    recipe = saved_recipe(CheckpointReader(resolve_checkpoint(tmp_path / "run")))
    assert recipe.lora is not None and sorted(recipe.lora.modules_to_save) == SAVED


def test_a_moved_folder_of_ours_finds_its_base(plain: Path, tmp_path: Path) -> None:
    """Catches a base that is beside the adapter and is not found."""
    import_adapter_command(plain / "peft", tmp_path / "run", plain / "run")
    export_adapter_command(tmp_path / "run", tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "moved")
    import_adapter_command(tmp_path / "moved", tmp_path / "second")
    assert (tmp_path / "second" / "base" / "checkpoints").is_dir()


def test_the_words_are_the_base_s_and_the_template_the_adapter_s(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches the tokenizer of another model, a template that is passed over where no tokenizer
    stands beside it, and added tokens that no file describes.
    """
    folder = tmp_path / "peft"
    shutil.copytree(plain / "peft", folder)
    (folder / "chat_template.jinja").write_text("{{ messages }} ends")
    import_adapter_command(folder, tmp_path / "run", plain / "run")
    opened = CheckpointReader(resolve_checkpoint(tmp_path / "run"))
    assert saved_tokenizer(opened).chat_template == "{{ messages }} ends"
    (folder / "added_tokens.json").write_text(json.dumps({"<tool>": 280}))
    with pytest.raises(CheckpointError, match="tokens that the base has not \\(<tool>\\)"):
        import_adapter_command(folder, tmp_path / "second", plain / "run")
    train_tokenizer(["zebras and giraffes"] * 9, 280).save(folder)
    with pytest.raises(CheckpointError, match="where the base's has 'at'"):
        import_adapter_command(folder, tmp_path / "second", plain / "run")
    renamed = (plain / "published" / "tokenizer.json").read_text().replace("<|im_end|>", "<|end|>")
    (folder / "tokenizer.json").write_text(renamed)
    capsys.readouterr()
    import_adapter_command(folder, tmp_path / "second", plain / "run")
    said = capsys.readouterr().out.replace("\n", " ")
    assert "<|im_end|> (<|end|>)" in said and "names its base" in said
