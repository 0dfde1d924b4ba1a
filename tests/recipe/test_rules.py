"""What the sections of a recipe owe each other and the world size."""

from pathlib import Path

import pytest

from tests.recipe.recipes import changed
from trainer.errors import RecipeError
from trainer.plan.size import parameter_count


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["stage=sft"], ["stage", "data.mixture"]),
        (["model.heads=3"], ["model.hidden", "model.heads"]),
        (["model.hidden=60", "model.heads=4"], ["even"]),
        (["model.heads=8", "model.kv_heads=3"], ["model.heads", "model.kv_heads"]),
        (["parallel.pipeline=3"], ["model.layers", "parallel.pipeline"]),
        (["parallel.pipeline=2", "parallel.virtual=4"], ["model.layers", "parallel.virtual"]),
        (["parallel.virtual=2"], ["parallel.virtual", "parallel.pipeline"]),
        (["parallel.tensor=3"], ["model.heads", "parallel.tensor"]),
        (["parallel.tensor=4"], ["model.kv_heads", "parallel.tensor"]),
        (["parallel.tensor=2", "model.ffn=127"], ["model.ffn", "parallel.tensor"]),
        (["parallel.tensor=2", "model.vocab=127"], ["model.vocab", "parallel.tensor"]),
        (
            [
                "parallel.tensor=3",
                "model.hidden=96",
                "model.heads=6",
                "model.kv_heads=3",
                "model.ffn=129",
                "model.vocab=null",
            ],
            ["parallel.tensor", "model.vocab"],
        ),
        (["parallel.sequence=true"], ["parallel.sequence", "parallel.tensor"]),
        (
            ["parallel.tensor=2", "parallel.sequence=true", "sequence_length=31"],
            ["sequence_length", "parallel.tensor"],
        ),
        (["parallel.context=2", "sequence_length=30"], ["sequence_length", "parallel.context"]),
        (["zero.stage=3", "model.tied_embeddings=true"], ["zero.stage", "tied_embeddings"]),
        (["zero.stage=0", "zero.offload=optimizer"], ["zero.offload", "zero.stage"]),
        (["schedule.decay=5"], ["schedule.decay", "wsd"]),
        (
            ["schedule.name=wsd", "schedule.warmup=11", "schedule.decay=10"],
            ["schedule.decay", "20 steps"],
        ),
        (["profile.steps=[5,3]"], ["profile.steps"]),
        (["recovery.patience=0.5"], ["recovery.patience", "greater than or equal to 1"]),
        (["recovery.minimum_replicas=0"], ["recovery.minimum_replicas", "greater than 0"]),
        (["recovery.minimum_replicas=9"], ["recovery.minimum_replicas", "take 8 at most"]),
        (["checkpoint.every=5", "recovery.settle=20"], ["recovery.settle", "the run's 20"]),
        (
            ["checkpoint.every=2", "checkpoint.keep=1", "recovery.settle=3"],
            ["recovery.settle", "the 2 after which it is removed"],
        ),
        (["corpus.source=text"], ["corpus.files"]),
        (["corpus.files=[a.txt]"], ["corpus.files", "corpus.source=text"]),
        (["corpus.packages=[]"], ["corpus.packages"]),
        (["model.softmax=off_by_one", "kernels.attention=sdpa"], ["kernels.attention", "softmax"]),
        (["model.window_pattern=[local,global]"], ["model.window_pattern", "model.window is none"]),
        (["model.window=8", "model.window_pattern=[global]"], ["model.window_pattern", "no local"]),
        (["model.window=8", "model.window_pattern=[]"], ["model.window_pattern", "no local"]),
        (
            ["model.window=8", "model.window_pattern=[local,local,global,local,global]"],
            ["model.window_pattern", "5 layers", "model.layers is 4"],
        ),
        (
            ["stage=preference", "data.mixture=[{corpus: a.jsonl}]", "loss.z=0.1"],
            ["loss.z", "preference.loss"],
        ),
        (["stage=sft", "loss.first_token_weight=1e7"], ["first_token_weight", "1000000"]),
        (["loss.first_token_weight=4"], ["first_token_weight", "stage pretrain", "set it to 1"]),
        (
            ["stage=preference", "data.mixture=[{corpus: a.jsonl}]", "loss.label_smoothing=0.1"],
            ["loss.label_smoothing", "preference.loss"],
        ),
        (
            ["model.rope_scaling.factor=8", "model.rope_scaling.high_frequency_factor=1"],
            ["model.rope_scaling"],
        ),
        (
            ["model.rope_scaling.factor=8", "model.rope_scaling.beta_fast=16"],
            ["model.rope_scaling.beta_fast", "llama3"],
        ),
        (
            ["model.rope_scaling={type: yarn, factor: 8, beta_slow: 40}"],
            ["model.rope_scaling: beta_fast"],
        ),
        (
            ["model.rope_scaling={type: longrope, factor: 8, short_factors: [1.0, 2.0]}"],
            ["model.rope_scaling.short_factors", "2 numbers", "8 channel pairs"],
        ),
        (
            ["model.rope_scaling={type: dynamic, factor: 0.5}"],
            ["model.rope_scaling", "a factor from 1 on"],
        ),
    ],
)
def test_contradiction_is_refused_in_one_line(
    tmp_path: Path, overrides: list[str], names: list[str]
) -> None:
    """Catches an impossible recipe that fails only inside a run, after its start."""
    with pytest.raises(RecipeError) as caught:
        changed(tmp_path, *overrides)
    line = str(caught.value)
    assert "\n" not in line
    for name in names:
        assert name in line


@pytest.mark.parametrize(
    "overrides",
    [
        ["parallel.tensor=2", "parallel.sequence=true", "parallel.pipeline=2"],
        ["parallel.pipeline=2", "parallel.virtual=2"],
        ["parallel.context=4", "parallel.tensor=2"],
        ["zero.stage=3", "parallel.pipeline=2"],
        ["model.head_size=10", "model.hidden=65"],
        ["schedule.name=wsd", "schedule.warmup=10", "schedule.decay=10"],
        ["schedule.warmup=30", "schedule.length=40"],
    ],
)
def test_possible_layout_is_accepted(tmp_path: Path, overrides: list[str]) -> None:
    """Negative control: catches rules that refuse what can be trained."""
    recipe = changed(tmp_path, *overrides)
    recipe.validate_world(8, "cpu")


@pytest.mark.parametrize(
    ("overrides", "world", "names"),
    [
        (["parallel.tensor=2", "parallel.pipeline=2"], 6, ["6 ranks", "multiple of 4"]),
        ([], 0, ["0 ranks"]),
        ([], 3, ["batch.sequences=9"]),
        (["batch.micro=4"], 4, ["batch.sequences=16"]),
        (
            ["parallel.pipeline=4", "parallel.virtual=1", "batch.micro=3"],
            4,
            ["batch.sequences=9"],
        ),
        (
            ["parallel.pipeline=2", "parallel.virtual=2", "batch.sequences=6"],
            4,
            ["interleaved", "batch.sequences=8"],
        ),
    ],
)
def test_world_that_does_not_fit_is_refused_with_the_mend(
    tmp_path: Path, overrides: list[str], world: int, names: list[str]
) -> None:
    """Catches a world size that leaves ranks idle or batches uneven."""
    recipe = changed(tmp_path, *overrides)
    with pytest.raises(RecipeError) as caught:
        recipe.validate_world(world, "cpu")
    for name in names:
        assert name in str(caught.value)


def test_proposed_batch_is_accepted(tmp_path: Path) -> None:
    """Catches a mend that leads to the next error."""
    overrides = ["parallel.pipeline=2", "parallel.virtual=2", "batch.micro=2"]
    recipe = changed(tmp_path, *overrides, "batch.sequences=12")
    with pytest.raises(RecipeError) as caught:
        recipe.validate_world(4, "cpu")
    proposed = str(caught.value).rpartition(" ")[2]
    changed(tmp_path, *overrides, proposed).validate_world(4, "cpu")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["kernels.attention=flash"], "flash needs the package flash-attn"),
        (["kernels.attention=triton", "model.head_size=12"], "steps of 8, and these have 12"),
        (["kernels.attention=triton", "model.head_size=264"], "8 to 256 .* these have 264"),
        (["kernels.attention=xformers"], "kernels.attention"),
        (["kernels.loss=fast"], "kernels.loss"),
    ],
)
def test_an_implementation_that_cannot_is_refused(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    """Catches a run that starts, and fails or falls back where the operator is first called."""
    with pytest.raises(RecipeError, match=message):
        changed(tmp_path, *overrides)


def test_flash_attention_says_what_it_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a run that ends in flash-attn's own words."""
    found = object()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    flash = ["kernels.attention=flash", "precision=bf16"]
    changed(tmp_path, *flash)
    with pytest.raises(RecipeError, match="flash takes bf16 only, and precision is fp32"):
        changed(tmp_path, "kernels.attention=flash")
    with pytest.raises(RecipeError, match="flash knows whole sequences only"):
        changed(tmp_path, *flash, "parallel.context=2")


def test_attention_that_rounds_otherwise_each_time_is_asked_for(tmp_path: Path) -> None:
    """Catches a resume on a GPU that is not bitwise, though nobody gave that up."""
    recipe = changed(tmp_path, "kernels.attention=sdpa")
    recipe.validate_world(1, "cpu")
    with pytest.raises(RecipeError, match=r"sdpa is not bitwise .* kernels.deterministic=false"):
        recipe.validate_world(1, "cuda")
    changed(tmp_path, "kernels.attention=sdpa", "kernels.deterministic=false").validate_world(
        1, "cuda"
    )


@pytest.mark.parametrize(
    ("overrides", "world", "replicas", "micro_batches"),
    [
        ([], 1, 1, 8),
        ([], 4, 4, 2),
        (["parallel.tensor=2", "parallel.pipeline=2"], 8, 2, 4),
        (["parallel.context=2", "batch.micro=2"], 4, 2, 2),
    ],
)
def test_batch_arithmetic(
    tmp_path: Path, overrides: list[str], world: int, replicas: int, micro_batches: int
) -> None:
    """Catches a step that reads more or fewer sequences than the recipe says."""
    recipe = changed(tmp_path, *overrides)
    assert recipe.data_parallel(world) == replicas
    assert recipe.micro_batches(world) == micro_batches
    assert replicas * micro_batches * recipe.batch.micro == recipe.batch.sequences


@pytest.mark.parametrize(
    "overrides",
    [
        *([], ["model.tied_embeddings=true"], ["model.qk_norm=true"]),
        ["model.norm=layer", "model.qk_norm=true"],
    ],
)
def test_parameter_count_equals_that_of_a_model_built_apart(
    tmp_path: Path, overrides: list[str]
) -> None:
    """Catches a forgotten matrix: the same shapes, added up one by one."""
    model = changed(tmp_path, *overrides, "model.head_size=24").model
    vectors = 2 if model.norm == "layer" else 1
    shapes = [(128, 64), *[(64,)] * vectors]
    for _ in range(4):
        shapes += [(4 * 24, 64), (2 * 24, 64), (2 * 24, 64), (64, 4 * 24)]
        shapes += [(128, 64), (128, 64), (64, 128), *[(64,), (64,)] * vectors]
        shapes += [(24,), (24,)] * vectors if model.qk_norm else []
    shapes += [] if model.tied_embeddings else [(128, 64)]
    expected = sum(shape[0] * (shape[1] if len(shape) == 2 else 1) for shape in shapes)
    assert parameter_count(model, 128)["total"] == expected


def test_a_single_replica_shares_nothing(tmp_path: Path) -> None:
    """Catches a lone GPU that pays for sharding, and two of them that do not share."""
    for stage, alone in ((0, 0), (1, 0), (2, 0), (3, 3)):
        recipe = changed(tmp_path, f"zero.stage={stage}")
        assert recipe.sharding(1) == alone
        assert recipe.sharding(2) == stage
    assert changed(tmp_path, "zero.stage=1", "zero.offload=optimizer").sharding(1) == 1
    assert changed(tmp_path, "zero.stage=1", "parallel.context=2").sharding(2) == 1
    assert changed(tmp_path, "zero.stage=1", "parallel.tensor=2").sharding(2) == 0


@pytest.mark.parametrize(
    ("overrides", "available", "training"),
    [
        ([], 8, 8),
        ([], 7, 4),
        (["batch.sequences=6"], 7, 6),
        (["batch.sequences=6"], 5, 3),
        (["batch.micro=2"], 8, 4),
        (["parallel.tensor=2"], 7, 4),
        (["parallel.tensor=2", "parallel.pipeline=2"], 31, 16),
        (["parallel.pipeline=2", "parallel.virtual=2"], 16, 8),
    ],
    ids=str,
)
def test_the_most_ranks_that_share_the_batch_train(
    tmp_path: Path, overrides: list[str], available: int, training: int
) -> None:
    """Catches a replica without its tensor ranks, and ranks that stand by though they could train.

    The batch has eight sequences; virtual stages need micro-batches in multiples of two.
    """
    recipe = changed(tmp_path, *overrides, "recovery.minimum_replicas=2")
    assert recipe.fitting_world(available, "cpu") == training
    recipe.validate_world(training, "cpu")


def test_without_a_minimum_all_ranks_train_or_none(tmp_path: Path) -> None:
    """Catches a mistyped number of ranks that trains on fewer, unasked."""
    assert changed(tmp_path).fitting_world(4, "cpu") == 4
    with pytest.raises(RecipeError, match=r"try batch\.sequences=14"):
        changed(tmp_path).fitting_world(7, "cpu")
    with pytest.raises(RecipeError, match="not a multiple of 3 data-parallel"):
        changed(tmp_path, "recovery.minimum_replicas=3").fitting_world(3, "cpu")
