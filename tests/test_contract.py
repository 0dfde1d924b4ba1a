"""What tools outside this repository rely on: verbs, run directories, metrics, keys, exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest

import kernels
from tests.parity.ranks import on_ranks
from tests.training.runs import recipe_of, train_here, write_text
from trainer import errors
from trainer.cli import main
from trainer.recipe import Recipe

VERBS = {
    "demo": ["--run"],
    "corpus build": ["--on"],
    "corpus inspect": ["--plots", "--card"],
    "corpus verify": [],
    "corpus find": ["--json"],
    "corpus scale": ["--bytes"],
    "corpus trace": [],
    "train": ["--nproc", "--show", "--force"],
    "recipe": ["--json"],
    "compare": ["--tolerance", "--json"],
    "report": ["--out"],
    "doctor": ["--self-test", "--json"],
    "evaluate": ["--suite", "--json"],
    "generate": ["--prompt", "--prompts", "--jsonl", "--tokens", "--temperature", "--nproc"],
    "chat": ["--system", "--seed"],
    "import": [],
    "export": ["--shard-gb", "--dtype", "--adapter"],
    "checkpoint ls": [],
    "checkpoint verify": [],
    "checkpoint prune": ["--keep"],
    "checkpoint diff": [],
    "checkpoint merge": ["--weights", "--into"],
    "bench train": ["--peers", "--json"],
    "bench step": ["--predict-only", "--json"],
    "bench memory": ["--memory", "--json"],
    "bench curation": ["--json"],
    "bench kernels": ["--compile-only", "--tune", "--json"],
    "bench data": ["--tokens", "--json"],
    "bench gpu": ["--minutes", "--after", "--dry"],
}
METRICS = {
    *("step", "loss", "skipped", "grad_norm", "lr", "tokens", "supervised_tokens"),
    *("tokens_per_second", "step_seconds", "tflops_per_device", "mfu", "memory_gib"),
}
OPERATORS = {
    *("Visible", "adamw_step", "add_layer_norm", "add_rms_norm", "attention"),
    *("attention_with_lse", "clip_coefficient", "cross_entropy", "geglu", "grad_norm"),
    *("grad_square_sum", "layer_norm", "linear_cross_entropy", "rms_norm", "rope"),
    *("rope_frequencies", "rope_table", "swiglu"),
}
KEYS = """
stage run seed steps sequence_length tokenizer init_from resume precision recompute offload device
model.layers model.hidden model.heads model.kv_heads model.ffn model.vocab model.tied_embeddings
model.qk_norm model.qkv_bias model.rope_theta batch.sequences batch.micro
parallel.tensor parallel.sequence parallel.pipeline parallel.virtual parallel.context
zero.stage zero.offload optimizer.lr optimizer.betas schedule.name schedule.warmup schedule.length
data.mixture data.curriculum data.packing data.workers checkpoint.every checkpoint.keep
model.window loss.z loss.label_smoothing loss.first_token_weight
evaluate.every evaluate.sequences kernels.attention kernels.loss kernels.compile profile.steps
"""


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_has_its_options(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a verb or an option that scripts use, and that another name has taken over."""
    assert main([*verb.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert [option for option in VERBS[verb] if option not in shown] == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.RecipeError, 2),
        (errors.DataError, 3),
        (errors.CheckpointError, 3),
        (errors.TrainingError, 4),
        (errors.GateError, 5),
        (errors.ClusterError, 6),
        (errors.StopRequested, 75),
    ],
)
def test_each_error_has_its_exit_code(error: type[errors.LyceumError], code: int) -> None:
    """Catches a cluster that takes a bad recipe for a run that may be started again."""
    assert error.exit_code == code


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run on two ranks, with everything that is written by default."""
    folder = tmp_path_factory.mktemp("contract")
    write_text(folder)
    keys: dict[str, Any] = {"observe": {}, "evaluate__every": 2, "zero__stage": 1, "steps": 2}
    recipe = recipe_of(folder / "run", folder, **keys)
    assert on_ranks(2, train_here, recipe) == [None, None]
    return folder / "run"


def test_a_run_directory_holds_what_is_promised(run: Path) -> None:
    """Catches a file that tools look for and no longer find, or find under another name."""
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    checkpoint = "checkpoints/step-00000002"
    assert files >= {
        *("recipe.yaml", "sources.json", "environment.json", "status.json", "metrics.jsonl"),
        *("logs/rank-0.log", "logs/rank-1.log"),
        *(f"{checkpoint}/checkpoint.json", f"{checkpoint}/recipe.yaml"),
        *(f"{checkpoint}/tokenizer/tokenizer.json", f"{checkpoint}/rank-00000.safetensors"),
    }
    assert any(name.startswith("tensorboard/") for name in files)


def test_a_run_says_what_it_read_and_on_how_many_ranks(run: Path) -> None:
    """Catches a run of which nobody can tell the corpus, or the layout, once it has ended."""
    (source,) = json.loads((run / "sources.json").read_text())["sources"]
    assert (Path(source["folder"]) / "manifest.json").is_file()
    assert source["kind"] == "documents" and source["splits"]["train"]["tokens"] > 0
    assert json.loads((run / "environment.json").read_text())["ranks"] == 2


def test_each_step_is_an_object_with_its_figures(run: Path) -> None:
    """Catches a figure that is renamed, rounded, or left out where it is not known."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2]
    assert all(record.keys() >= METRICS for record in records)
    assert all(record["mfu"] is None for record in records), "a CPU's peak is not known"
    assert records[0]["tokens"] < records[1]["tokens"]
    assert "eval/loss" in records[1] and "eval/loss" not in records[0]


def test_status_and_environment_say_how_it_ended_and_on_what(run: Path) -> None:
    """Catches a scheduler that cannot learn whether a run ended, and why."""
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], status["step"], status["exit_code"]) == ("done", 2, 0)
    assert isinstance(status["reason"], str)
    environment = json.loads((run / "environment.json").read_text())
    assert environment["packages"]["torch"] and {"cpu", "gpus", "git", "python"} <= set(environment)


def test_the_saved_recipe_has_every_promised_key(run: Path) -> None:
    """Catches a renamed key: recipes of others would be refused."""
    text = (run / "recipe.yaml").read_text()
    keys = set(dotted(Recipe.from_yaml(text, "recipe.yaml").model_dump(mode="json")))
    assert [key for key in KEYS.split() if key not in keys] == []


def dotted(tree: dict[str, Any], above: str = "") -> list[str]:
    """The names of all leaves."""
    names = []
    for name, value in tree.items():
        inner = isinstance(value, dict)
        names += dotted(value, f"{above}{name}.") if inner else [f"{above}{name}"]
    return names


def test_operators_keep_their_names() -> None:
    """Catches an operator that is renamed or taken out: others import `kernels` by itself."""
    assert set(kernels.__all__) >= OPERATORS
    assert all(hasattr(kernels, name) for name in kernels.__all__)
