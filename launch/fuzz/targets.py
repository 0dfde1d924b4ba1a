"""What reads the files: each target damages its own, and reads them as a command would."""

import contextlib
import hashlib
import io
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from launch.fuzz.mutate import damaged, strange
from launch.local import RECIPES

CaseReader = Callable[[Path, random.Random], object]


@dataclass(frozen=True)
class Target:
    """A kind of input: the seed folder that is copied ("" for none), and what damages and reads it;
    of a hundred cases `share` are of it.
    """

    name: str
    seed: str
    share: int
    read: CaseReader


def _harm(folder: Path, dice: random.Random, *patterns: str) -> Path:
    """Damage one file among those that match; its path."""
    files = sorted({path for one in patterns for path in folder.glob(one) if path.is_file()})
    file = dice.choice(files)
    file.write_bytes(damaged(file.read_bytes(), dice))
    return file


def _recipe(folder: Path, dice: random.Random) -> None:
    from trainer.recipe import Recipe, learning_changes, load_recipe

    shipped = sorted(RECIPES.glob("*.yaml"))
    text = _long_recipe() if dice.random() < 0.5 else dice.choice(shipped).read_bytes()
    path = folder / "recipe.yaml"
    path.write_bytes(damaged(text, dice))
    recipe = load_recipe(path)
    recipe.validate_world(2, "cpu")
    assert Recipe.from_yaml(recipe.to_yaml()).steps == recipe.steps
    learning_changes(recipe, recipe)


@cache
def _long_recipe() -> bytes:
    """Every key of a recipe, written out."""
    from trainer.recipe import load_recipe

    return load_recipe(RECIPES / "demo.yaml").to_yaml().encode()


def _override(folder: Path, dice: random.Random) -> None:
    from trainer.recipe import load_recipe

    words = (
        "model.layers=8",
        "data.mixture=[{corpus: a, weight: 1}]",
        "profile.steps=[3, 5]",
        "data.mixture.0.weight=2",
        "optimizer.lr=1e-3",
        "corpus=null",
        "parallel.tensor=2",
    )
    word = damaged(dice.choice(words).encode(), dice).decode("utf-8", "replace")
    load_recipe(RECIPES / "tiny.yaml", [word])


def _reseal_corpus(folder: Path) -> None:
    """Have a manifest say of damaged shards what they are, so that they are read all the same."""
    path = folder / "manifest.json"
    content = json.loads(path.read_bytes())
    for split in content["splits"].values():
        for shard in split["shards"]:
            file = folder / shard["name"]
            index = next(iter(folder.glob(f"{Path(shard['name']).with_suffix('')}.idx*")), None)
            shard |= {"sha256": _sha256(file), "bytes": file.stat().st_size}
            if index is not None and "index_sha256" in shard:
                shard["index_sha256"] = _sha256(index)
    path.write_text(json.dumps(content))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _corpus(folder: Path, dice: random.Random) -> None:
    from rich.console import Console

    from trainer.corpus.inspect.contents import inspect_corpus
    from trainer.corpus.inspect.verify import verify_corpus
    from trainer.data.manifest import load_manifest
    from trainer.data.stream import Stream
    from trainer.data.tokenizer import load_tokenizer

    harmed = _harm(folder, dice, "*", "*/*")
    if dice.random() < 0.5 and harmed.name != "manifest.json":
        _reseal_corpus(folder)
    kind = dice.randrange(3)
    if kind == 0:
        for problem in verify_corpus(folder):
            assert "\n" not in problem, problem
    elif kind == 1:
        Console(file=io.StringIO()).print(inspect_corpus(folder, sequence_length=32))
    else:
        load_manifest(folder)
        load_tokenizer(folder / "tokenizer")
        stream = Stream([(str(folder), 1.0)], sequence_length=32)
        for _ in range(3):
            stream.next(2, range(2))
        stream.close()


def _input(folder: Path, dice: random.Random) -> None:
    from trainer.corpus.reading.files import list_files
    from trainer.corpus.reading.quarantine import Quarantine
    from trainer.corpus.reading.read import read_file
    from trainer.corpus.reading.record import ReadOptions

    harmed = _harm(folder, dice, "*")
    (file,) = list_files([str(harmed)])
    with Quarantine(folder / "quarantine.jsonl") as quarantine:
        for document in read_file(file, ReadOptions(), quarantine):
            assert document.text is not None


def _tars(folder: Path, dice: random.Random) -> None:
    from dataclasses import replace

    from trainer.corpus.reading.quarantine import Quarantine
    from trainer.corpus.reading.read import read_file
    from trainer.corpus.reading.record import ReadOptions
    from trainer.corpus.reading.webdataset import tar_input

    _harm(folder, dice, "*.tar", "*.tar.gz", ".nv-meta/*", ".nv-meta/.*")
    source = dice.choice((str(folder), f"{folder}/*.tar*", f"{folder}/a.tar"))
    text = dice.choice((None, None, "txt", "json[text]", "json[meta][pages][0], txt"))
    given = tar_input([source], text, "corpus.files")
    options = replace(ReadOptions(), text_members=given.members, excluded=given.excluded)
    for files in given.files.values():
        for file in files:
            for document in read_file(file, options, Quarantine()):
                assert document.text is not None


def _checkpoint(folder: Path, dice: random.Random) -> None:
    from trainer.checkpoint import CheckpointReader, list_checkpoints
    from trainer.checkpoint.files import verify_checkpoint
    from trainer.recipe import Recipe
    from trainer.recipe.load import with_base_model

    (step,) = (folder / "checkpoints").glob("step-*")
    manifest = step / "checkpoint.json"
    if dice.random() < 0.5:
        body = json.loads(manifest.read_bytes())
        body.pop("sha256")
        body = strange(body, dice)
        if isinstance(body, dict):
            seal = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
            body |= {"sha256": seal}
        manifest.write_text(json.dumps(body))
    else:
        harmed = _harm(step, dice, "*", "tokenizer/*")
        if dice.random() < 0.7 and harmed != manifest:
            _reseal_checkpoint(step)
    list_checkpoints(folder)
    verify_checkpoint(step)
    with_base_model({"init_from": str(step), "run": str(folder)})
    reader = CheckpointReader(step)
    keys = reader.keys()
    for key in keys:
        reader.read(key)
    reader.verify()
    if "recipe.yaml" in reader.attachments():
        Recipe.from_yaml(reader.attachment("recipe.yaml").decode("utf-8", "replace"))


def _reseal_checkpoint(step: Path) -> None:
    path = step / "checkpoint.json"
    body = json.loads(path.read_bytes())
    body.pop("sha256")
    for name, stored in body["files"].items():
        stored |= {"bytes": (step / name).stat().st_size, "sha256": _sha256(step / name)}
    seal = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(body | {"sha256": seal}))


def _set(folder: Path, dice: random.Random) -> None:
    from trainer.conversations.examples import marked_examples
    from trainer.conversations.marking import ExampleCounts
    from trainer.recipe.fine_tuning import ConversationsSection

    harmed = _harm(folder, dice, "*.jsonl")
    kind: Any = {"pairs.jsonl": "pairs", "judged.jsonl": "judged"}.get(harmed.name, "conversations")
    malformed: Literal["stop", "drop"] = "drop" if dice.random() < 0.5 else "stop"
    section, counts = ConversationsSection(malformed=malformed), ExampleCounts()
    for example in marked_examples([str(harmed)], kind, _chatml(), section, 256, counts):
        assert len(example.tokens)


@cache
def _chatml() -> Any:
    from launch.fuzz.seeds import texts
    from trainer.conversations.template import ChatTemplate
    from trainer.data.tokenizer import train_tokenizer

    return ChatTemplate(train_tokenizer(texts(), 320))


def _run(folder: Path, dice: random.Random) -> None:
    from trainer.compare import read_steps
    from trainer.recovery.status_file import left_without_a_word
    from trainer.report.reading.run_record import read_run

    _harm(folder, dice, "*")
    left_without_a_word(folder)
    if dice.random() < 0.5:
        read_steps(folder)
    record = read_run(folder)
    assert record.called and record.state


def _report(folder: Path, dice: random.Random) -> None:
    from trainer.report.command import report_command

    _harm(folder, dice, "*")
    with contextlib.redirect_stdout(io.StringIO()):
        report_command([folder], folder / "page.html")


def _model(folder: Path, dice: random.Random) -> None:
    from trainer.conversations.template import ChatTemplate
    from trainer.data.tokenizer import load_tokenizer
    from trainer.hugging_face.config import describe

    harmed = _harm(folder, dice, "*")
    describe((folder / "config.json").read_bytes(), str(folder / "config.json"))
    tokenizer = load_tokenizer(folder)
    template = str(harmed) if harmed.suffix == ".jinja" else None
    ChatTemplate(tokenizer, template).check()


def _gguf(folder: Path, dice: random.Random) -> None:
    from trainer.gguf.model import GgufModel

    path = folder / "model.gguf"
    content = path.read_bytes()
    if dice.random() < 0.7:  # most of it is weights, and any number is one
        cut = content.index(b"general.architecture") + dice.randrange(12_000)
        path.write_bytes(damaged(content[:cut], dice) + content[cut:])
    else:
        path.write_bytes(damaged(content, dice))
    model = GgufModel(path)
    assert model.tokenizer.size and model.notices is not None
    model.tensors()


TARGETS = (
    Target("recipe", "", 24, _recipe),
    Target("override", "", 4, _override),
    Target("corpus", "corpus", 14, _corpus),
    Target("input", "inputs", 12, _input),
    Target("tars", "tars", 12, _tars),
    Target("checkpoint", "run", 10, _checkpoint),
    Target("set", "sets", 10, _set),
    Target("run", "run", 6, _run),
    Target("report", "run", 1, _report),
    Target("model", "model", 7, _model),
    Target("gguf", "gguf", 4, _gguf),
)


def play(seed: int, number: int, seeds: Path, scratch: Path, only: str | None = None) -> str:
    """Play a case in an empty folder: damage and read; the name of its target.

    Raises what reading raises. The same seed and number give the same case.
    """
    dice = random.Random(f"{seed} {number}")
    chosen = [one for one in TARGETS if only in (None, one.name)]
    (target,) = dice.choices(chosen, [one.share for one in chosen])
    folder = scratch / "case"
    shutil.rmtree(folder, ignore_errors=True)
    if target.seed:
        shutil.copytree(seeds / target.seed, folder)
    else:
        folder.mkdir(parents=True)
    target.read(folder, dice)
    return target.name
