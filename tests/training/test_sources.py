"""A process opens its sources once: what each verb parses, counted."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.remote.servers import web_server
from tests.parity.ranks import on_ranks
from tests.training.runs import recipe_of, train_here, write_text
from tests.training.sets import tuning_recipe, write_sets
from trainer.data import manifest
from trainer.data.loader import Loader
from trainer.data.tokenizer import Tokenizer
from trainer.errors import DataError
from trainer.evaluate.command import evaluate_command
from trainer.evaluate.sampling import Sampling
from trainer.evaluate.writing import generate_command
from trainer.observe import read_metrics
from trainer.recipe import Recipe
from trainer.sources import open_sources
from trainer.trace import trace_command


def counted(log: Path, function: Callable[..., Any], *arguments: Any) -> Counter[str]:
    """How often each manifest and tokenizer is parsed while the function runs.

    Counted in a file: workers are forks of this process.
    """
    load, create = manifest._load, Tokenizer.__init__

    def note(what: str, where: Any) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{what} {Path(str(where)).name}\n")

    def noted_load(folder: Any, remote: Any) -> Any:
        note("manifest", folder)
        return load(folder, remote)

    def noted_create(self: Tokenizer, files: dict[str, bytes], where: str) -> None:
        note("tokenizer", where)
        create(self, files, where)

    manifest._load, Tokenizer.__init__ = noted_load, noted_create  # type: ignore[method-assign]
    try:
        function(*arguments)
    finally:
        manifest._load, Tokenizer.__init__ = load, create  # type: ignore[method-assign]
    return Counter(log.read_text(encoding="utf-8").split("\n")[:-1])


def counted_on_rank(log: Path, function: Callable[..., Any], *arguments: Any) -> Counter[str]:
    (found,) = on_ranks(1, counted, log, function, *arguments)
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose corpus lies beside it."""
    folder = tmp_path_factory.mktemp("sources")
    write_text(folder)
    assert on_ranks(1, train_here, recipe_of(folder / "run", folder, steps=4)) == [None]
    return folder / "run"


def test_a_run_with_evaluations_parses_once(run: Path, tmp_path: Path) -> None:
    """Catches an evaluation that reads 100 TB's manifest while a step waits."""
    recipe = recipe_of(tmp_path / "run", run.parent, evaluate__every=2)
    found = counted_on_rank(tmp_path / "log", train_here, recipe)
    assert found == {"manifest shards": 1, "tokenizer tokenizer": 1}
    assert [n for n, r in enumerate(read_metrics(tmp_path / "run"), 1) if "eval/loss" in r] == [
        *(2, 4, 6, 8),
    ]


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_workers_inherit_what_was_parsed(run: Path, tmp_path: Path) -> None:
    """Catches a manifest that each worker parses, or that is pickled to it."""

    def read() -> None:
        recipe = recipe_of(tmp_path / "run", run.parent)
        arguments = open_sources(recipe).stream_arguments(recipe)
        loader = Loader(arguments, global_batch=8, rows=range(8), workers=2)
        assert next(loader).tokens.shape == (8, 32)
        loader.close()

    found = counted(tmp_path / "log", read)
    assert found == {"manifest shards": 1, "tokenizer tokenizer": 1}


def test_a_remote_manifest_is_fetched_and_parsed_once(run: Path, tmp_path: Path) -> None:
    """Catches a request for the manifest at each evaluation, and one that is cached by chance."""
    with web_server(run.parent) as server:
        mixture = [{"corpus": f"{server.url}/shards"}]
        data = {"mixture": mixture, "workers": 0, "remote": {"cache": str(tmp_path / "cache")}}
        recipe = recipe_of(tmp_path / "run", run.parent, evaluate__every=2, data=data)
        found = counted_on_rank(tmp_path / "log", train_here, recipe)
        assert found == {"manifest shards": 1, "tokenizer tokenizer": 1}
        assert server.count("shards/manifest.json") == 1
        assert server.count("shards/tokenizer/tokenizer.json") == 1


@pytest.mark.parametrize("stage", ["sft", "preference"])
def test_stages_on_sets_parse_once(run: Path, tmp_path: Path, stage: str) -> None:
    """Catches the examples that are shown, the check of what is held out, or the reference's own
    pass, reading a set's manifest for themselves.
    """
    write_sets(tmp_path)
    recipe = tuning_recipe(tmp_path / "run", run, tmp_path, stage, evaluate__every=2)
    assert on_ranks(1, train_here, recipe.model_copy(update={"run": str(tmp_path / "first")})) == [
        None
    ]
    found = counted_on_rank(tmp_path / "log", train_here, recipe)
    manifests = {name: times for name, times in found.items() if name.startswith("manifest")}
    assert list(manifests.values()) == [1]


def test_reading_verbs_parse_once(run: Path, tmp_path: Path) -> None:
    """Catches evaluate, generate or trace opening again what they have opened."""
    found = counted_on_rank(tmp_path / "1", evaluate_command, run, ["perplexity"], None)
    # The checkpoint's; and the corpus's own, checked, and then decoded with for the search.
    assert found == {"manifest shards": 1, "tokenizer tokenizer": 3}
    sampling = Sampling(tokens=2, temperature=0.0)
    found = counted_on_rank(tmp_path / "2", generate_command, run, "the", None, None, sampling)
    assert found == {"tokenizer tokenizer": 1}
    found = counted_on_rank(tmp_path / "3", trace_command, run, 3)
    assert found == {"manifest shards": 1, "tokenizer tokenizer": 1}


def test_a_second_opening_would_be_counted(run: Path, tmp_path: Path) -> None:
    """Negative control: the count sees what a stream without its manifests parses."""

    def twice() -> None:
        from trainer.data.stream import Stream
        from trainer.sources import stream_arguments

        recipe = recipe_of(tmp_path / "run", run.parent)
        sources = open_sources(recipe)
        Stream(**stream_arguments(recipe, sources.folders)).close()

    assert counted(tmp_path / "log", twice)["manifest shards"] == 2


def test_corpora_of_two_tokenizers_are_refused(run: Path, tmp_path: Path) -> None:
    """Catches a model that reads ids of another vocabulary than its own."""
    recipe: Recipe = recipe_of(tmp_path / "run", run.parent)
    other = recipe_of(tmp_path / "run", run.parent, corpus__path=str(tmp_path / "other"))
    made = open_sources(
        other.model_copy(update={"corpus": other.corpus.model_copy(update={"vocab": 300})})
    )
    with pytest.raises(DataError, match="was tokenized with tokenizer"):
        open_sources(recipe, tokenizer=made.tokenizer)
