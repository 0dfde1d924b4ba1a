"""A set of the run's own samples is the same at every layout, made once, kept and traced."""

import json
import shutil
import signal
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.own_sets.asking import (
    NAMES,
    examples,
    preferring_recipe,
    records,
    refusing_recipe,
    train_all,
    train_until_asked,
    write_lines,
    write_questions,
)
from tests.parity.ranks import Died, on_ranks
from tests.training.runs import losses, recipe_of, train_here, train_until, write_text
from trainer.checkpoint import resolve_checkpoint
from trainer.conversations.sets import ensure_set
from trainer.data.manifest import load_manifest
from trainer.evaluate.opened import open_model
from trainer.evaluate.own_text import text_of
from trainer.merging.command import merge_checkpoints
from trainer.observe.status import read_status
from trainer.own_sets.made_of import is_made
from trainer.recipe import Recipe, load_recipe
from trainer.trace import trace_command

SAMPLES = 4
LAYOUTS: list[tuple[int, dict[str, Any]]] = [
    (2, {"parallel__tensor": 2}),
    (2, {"parallel__pipeline": 2}),
    (2, {"parallel__context": 2}),
    (2, {"zero__stage": 3}),
    (2, {"zero__stage": 1, "lora": {"rank": 4}}),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-trained run, and beside it the questions."""
    folder = tmp_path_factory.mktemp("asking")
    write_text(folder)
    write_questions(folder)
    assert on_ranks(1, train_here, recipe_of(folder / "base", folder, steps=4)) == [None]
    return folder / "base"


@pytest.fixture(scope="module")
def alone(base: Path) -> Path:
    """A run of one process, which keeps an average of its weights."""
    average = {"kind": "ema", "decay": 0.9}
    recipe = refusing_recipe(base.with_name("alone"), base, checkpoint__average=average)
    assert on_ranks(1, train_here, recipe) == [None]
    return Path(recipe.run)


def answer_of(example: dict[str, Any]) -> str:
    return str(example["messages"][-1]["content"])


def test_the_model_is_asked_and_only_its_own_right_texts_are_taught(alone) -> None:
    """Catches answers out of the key, refusals of what is known, and samples that are all alike."""
    asked, taught = records(alone), examples(alone)
    assert set(asked) == set(NAMES)  # what nobody can know needs no answer of the model
    texts = {name: [one["text"] for one in held["samples"]] for name, held in asked.items()}
    assert all(len(set(held)) == SAMPLES for held in texts.values())
    origins = {one["about"]["id"]: one["about"]["origin"] for one in taught}
    assert {"known", "unknowable"} <= set(origins.values())
    for example in taught:
        about, answer = example["about"], answer_of(example)
        said = any(answer in text for text in texts.get(about["id"], ()))
        assert said == (about["origin"] == "known"), example
    of_names = [held for name, held in asked.items() if name in NAMES]
    outcomes = [
        (one["outcome"], "e" in one["text"]) for held in of_names for one in held["samples"]
    ]
    assert {("right", True), ("wrong", False)} == set(outcomes)


def test_the_set_says_what_it_was_made_of(alone) -> None:
    """Catches a set that nobody can account for, and sources.json without it."""
    made_of = json.loads((alone / "refusals/set.json").read_bytes())
    assert made_of["files"][0]["file"].endswith("questions.jsonl") and made_of["files"][0]["sha256"]
    assert made_of["base"].endswith("step-00000004") and len(made_of["identity"]["base"]) == 64
    assert made_of["identity"]["keys"]["threshold"] == 0.25
    assert made_of["examples"] == len(examples(alone))
    assert made_of["summary"].startswith("refusals: 20 questions, 4 samples each: ")
    (source,) = json.loads((alone / "sources.json").read_bytes())["sources"]
    assert source["name"] == "refusals" and source["corpus"].startswith("run://refusals?key=")
    manifest = load_manifest(source["folder"])
    assert manifest.provenance["asked"] == made_of
    assert "about" not in manifest.provenance["examples"]["unread"]


def test_a_question_is_on_one_side_of_the_split_and_as_it_was_asked(alone, base, tmp_path) -> None:
    """Catches a question that is held out and trained on, and answers that nobody verified."""
    shutil.copytree(alone / "refusals", tmp_path / "run/refusals")
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"What does he say of {number}?"},
                {"role": "assistant", "content": f"He says {text}."},
            ],
            "about": {"id": f"q{number}", "origin": "known"},
        }
        for number in range(12)
        for text in range(4)
    ]
    write_lines(tmp_path / "run/refusals/examples.jsonl", lines)
    tokenizer = str(resolve_checkpoint(base) / "tokenizer")
    keys = {"conversations__validation": 0.4, "conversations__balance__counterfactual": 1.0}
    recipe = refusing_recipe(tmp_path / "run", base, tokenizer=tokenizer, **keys)
    folder = ensure_set(recipe, "run://refusals")
    sides = {split: numbers_in(folder / split) for split in ("train", "validation")}
    assert sorted(sides["train"] + sides["validation"]) == [n // 4 for n in range(48)]
    assert sides["validation"] and not set(sides["train"]) & set(sides["validation"])


def numbers_in(shards: Path) -> list[int]:
    """The question of each example in a split, by the line that it stands in."""
    found = []
    for path in shards.glob("*.tar"):
        with tarfile.open(path) as tar:
            members = [tar.extractfile(one) for one in tar if one.name.endswith(".json")]
            ids = [json.loads(one.read())["id"] for one in members if one is not None]
        assert not any("counterfactual" in one for one in ids)
        found += [(int(one.rpartition(" ")[2]) - 1) // 4 for one in ids]
    return found


def test_a_set_of_before_a_key_is_what_the_keys_default_says(alone, tmp_path) -> None:
    """Catches runs whose model is asked again since the program has learned a new key."""
    shutil.copytree(alone / "refusals", tmp_path / "run/refusals")
    recipe = load_recipe(str(alone / "recipe.yaml"), [f"run={tmp_path / 'run'}"])
    file = tmp_path / "run/refusals/set.json"
    made_of = json.loads(file.read_bytes())
    assert made_of["identity"]["keys"].pop("beyond_share") == "leave"
    file.write_text(json.dumps(made_of), encoding="utf-8")
    assert is_made(recipe, "refusals")
    key = "conversations.refusals.beyond_share"
    assert not is_made(recipe.replaced({key: "repeat"}), "refusals")


def test_a_set_is_of_the_length_that_it_is_read_in_until_its_run_has_begun(alone, tmp_path) -> None:
    """Catches a set in balance at one length that is read at another, of which the long ones go,
    and a run that goes on with another set than it began with.
    """
    run = tmp_path / "run"
    shutil.copytree(alone / "refusals", run / "refusals")
    recipe = load_recipe(str(alone / "recipe.yaml"), [f"run={run}"])
    assert is_made(recipe, "refusals")
    file = run / "refusals/set.json"
    made_of = json.loads(file.read_bytes())
    read_otherwise = [
        recipe.replaced({"sequence_length": 128}),
        recipe.replaced({"conversations.too_long": "cut"}),
    ]
    older = {
        name: one for name, one in made_of["identity"].items() if name not in ("read", "rules")
    }
    for other in read_otherwise:
        assert not is_made(other, "refusals")
    file.write_text(json.dumps(made_of | {"identity": older}), encoding="utf-8")
    assert not is_made(recipe, "refusals"), "made by earlier rules"
    (run / "checkpoints/step-00000001").mkdir(parents=True)
    for kept in (older, made_of["identity"]):
        file.write_text(json.dumps(made_of | {"identity": kept}), encoding="utf-8")
        assert all(is_made(one, "refusals") for one in (recipe, *read_otherwise))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda one: "-".join(map(str, one[1])))
def test_every_layout_asks_and_learns_the_same(alone, base, tmp_path, layout) -> None:
    """Catches draws that follow a rank, weights of which a rank has a part, and samples of a model
    whose fresh adapters already have an effect.
    """
    ranks, keys = layout
    recipe = refusing_recipe(tmp_path / "run", base, steps=2, **keys)
    assert on_ranks(ranks, train_here, recipe) == [None] * ranks
    run = Path(recipe.run)
    assert records(run) == records(alone)
    assert examples(run) == examples(alone)
    if "lora" not in keys:
        first = json.loads((alone / "metrics.jsonl").read_text().split("\n")[0])
        assert losses(recipe)[0] == pytest.approx(first["loss"], abs=1e-5)


def test_a_run_that_ends_while_it_asks_goes_on_from_what_was_answered(
    alone, base, tmp_path
) -> None:
    """Catches samples that are made twice, that hang on what is asked beside, or that are lost."""
    recipe = refusing_recipe(tmp_path / "run", base)
    run, states = Path(recipe.run), []
    ((kind, line),) = on_ranks(1, train_until_asked, recipe, 3, signal.SIGTERM)
    assert kind == "StopRequested" and "while its model was asked" in line and "\n" not in line
    states.append(len(records(run)))
    status = read_status(run)
    assert status is not None and (status["state"], status["exit_code"]) == ("stopped", 75)
    with pytest.raises(Died):
        on_ranks(1, train_until_asked, recipe, 3, signal.SIGKILL)
    states.append(len(records(run)))
    assert 3 <= states[0] < states[1] < len(NAMES)
    status = read_status(run)
    assert status is not None and status["state"] == "running"
    assert status["measuring"].startswith("refusals ")
    assert not (run / "refusals/examples.jsonl").exists()
    assert on_ranks(1, train_here, recipe) == [None]
    assert records(run) == records(alone) and examples(run) == examples(alone)
    assert losses(recipe) == losses(refusing_recipe(alone, base))


def resumed_with_other_questions(recipe: Recipe, questions: Path) -> list[tuple[str, str] | None]:
    """A run that goes on; then, with a question more, without force and with it."""
    found = [train_here(recipe)]
    more = {"id": "more", "question": "What is more?", "answer": "more"}
    with questions.open("a", encoding="utf-8") as file:
        file.write(json.dumps(more) + "\n")
    longer = recipe.replaced({"steps": recipe.steps + 1})
    return [*found, train_here(longer), train_here(longer, force=True)]


def test_a_resumed_run_learns_from_the_set_that_it_has(alone, base, tmp_path) -> None:
    """Catches a set that is made anew of weights that have moved, and other questions that go
    unnoticed, or that are forced and asked of the wrong weights.
    """
    questions = tmp_path / "questions.jsonl"
    shutil.copy(base.parent / "questions.jsonl", questions)
    keys = {"conversations__refusals__questions": [str(questions)], "checkpoint__every": 2}
    keys |= {"checkpoint__background": False}  # or the kill could come before it is whole
    recipe = refusing_recipe(tmp_path / "run", base, **keys)
    run = Path(recipe.run)
    with pytest.raises(Died):
        on_ranks(1, train_until, recipe, 3, signal.SIGKILL)
    before = (run / "refusals/samples.jsonl").read_bytes()
    ((went_on, refused, forced),) = on_ranks(1, resumed_with_other_questions, recipe, questions)
    assert went_on is None
    assert losses(recipe)[:4] == losses(refusing_recipe(alone, base))
    assert refused is not None and "conversations.refusals.questions' content" in refused[1]
    assert forced is None
    # Of the base again: what was asked before has the same answers.
    after = records(run)
    assert "more" in after
    aside = [path for path in (run / "refusals").iterdir() if path.name.endswith(".replaced")]
    assert before in [path.read_bytes() for path in aside]
    for name, held in records(alone).items():
        assert after[name]["samples"] == held["samples"]


def test_an_altered_set_is_refused(alone, base, tmp_path) -> None:
    """Catches a set that somebody has mended, and that is overwritten or trained on unsaid."""
    recipe = refusing_recipe(tmp_path / "run", base, steps=5)
    shutil.copytree(alone, tmp_path / "run")
    with (tmp_path / "run/refusals/examples.jsonl").open("a", encoding="utf-8") as file:
        file.write("{}\n")
    (failure,) = on_ranks(1, train_here, recipe)
    assert failure is not None and "examples.jsonl: was altered after it was made" in failure[1]


def test_a_document_of_the_set_is_traced_to_its_question(alone, tmp_path, capsys) -> None:
    """Catches a trace that ends in the run's own file, and a moved run whose set is not found."""
    moved = tmp_path / "moved"
    shutil.copytree(alone, moved)
    trace_command(moved, 1)
    said = capsys.readouterr().out
    assert f"in {moved}/refusals/shards/" in said
    lines = [line for line in said.split("\n") if ", question " in line]
    assert lines and all("questions.jsonl line " in line for line in lines)
    taught = {one["about"]["id"]: one["messages"][0]["content"] for one in examples(alone)}
    named = {line.partition(", question ")[2].partition(" ")[0]: line for line in lines}
    assert all(line.endswith(f": {taught[name]}") for name, line in named.items())
    assert any(name.startswith("no-") for name in named)  # it was never put to the model


def read_and_merge(runs: list[Path], into: Path) -> list[tuple[str, bool]]:
    """The stage of each run as it is opened, and whether its text is; last their merger's."""
    found = []
    for run in (*runs, merge_checkpoints(runs, None, into)):
        with open_model(run, 1) as opened:
            found.append((opened.recipe.stage, text_of(opened, (), ()).own is not None))
    return found


def test_what_was_taught_to_refuse_is_read_and_merged_as_any_other(alone, tmp_path) -> None:
    """Catches rules of training, as of a model to ask, that refuse a model its readers, and sets
    that lie in a run and are not found from its average, or from where it was moved to.
    """
    moved = tmp_path / "moved"
    shutil.copytree(alone, moved)
    (found,) = on_ranks(1, read_and_merge, [moved, alone / "average"], tmp_path / "merged")
    assert found == [("sft", True), ("sft", True), ("sft", False)]


def test_preferences_are_between_its_own_texts_and_refusals(base, tmp_path) -> None:
    """Catches pairs whose better text is out of the key, and judged ones that KTO cannot read."""
    recipes = [
        preferring_recipe(tmp_path / "dpo", base, steps=2),
        preferring_recipe(tmp_path / "kto", base, steps=2, preference__loss="kto"),
    ]
    assert on_ranks(1, train_all, recipes) == [[None, None]]
    pairs, judged = (examples(Path(recipe.run), "factuality") for recipe in recipes)
    asked = records(tmp_path / "dpo", "factuality")
    assert asked == records(tmp_path / "kto", "factuality")
    assert pairs and all({"chosen", "rejected"} <= one.keys() for one in pairs)
    assert {one["label"] for one in judged} == {True, False}
    (source,) = json.loads((tmp_path / "dpo/sources.json").read_bytes())["sources"]
    assert source["name"] == "factuality" and source["kind"] == "pairs"


def test_pairs_that_do_not_fit_are_left_out_before_the_balance(base, tmp_path) -> None:
    """Catches a set in balance of which the reader then drops what is long, which refusals win."""
    recipe = preferring_recipe(tmp_path / "short", base, steps=1, sequence_length=130)
    assert on_ranks(1, train_here, recipe) == [None]
    made_of = json.loads((tmp_path / "short/factuality/set.json").read_bytes())
    pairs, unusable = (made_of["counts"][name] for name in ("pairs", "unusable"))
    assert sum(unusable.values()) > 0, "negative control: at this length some do not fit"
    won = pairs["refusal over wrong"] + pairs["refusal over invented"]
    assert won == pairs["right over refusal"] > 0
    (source,) = json.loads((tmp_path / "short/sources.json").read_bytes())["sources"]
    counted = load_manifest(source["folder"]).provenance["examples"]
    assert counted["read"] == counted["used"] == sum(pairs.values())


def test_what_spells_a_special_token_counts_and_is_not_taught(alone, base, tmp_path) -> None:
    """Catches texts that are counted as taught, and that the set's reader drops behind that."""
    run = tmp_path / "run"
    shutil.copytree(alone / "refusals", run / "refusals")
    (run / "refusals/set.json").unlink()
    known = {one["about"]["id"] for one in examples(alone) if one["about"]["origin"] == "known"}
    file = run / "refusals/samples.jsonl"
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    spelled = next(one for one in lines if one["id"] in known)
    for sample in spelled["samples"]:
        sample["text"] += "<|im_end|>"
    write_lines(file, lines)
    assert on_ranks(1, train_here, refusing_recipe(run, base, steps=1)) == [None]
    assert known - {one["about"]["id"] for one in examples(run)} == {spelled["id"]}
    made_of = json.loads((run / "refusals/set.json").read_bytes())
    before = json.loads((alone / "refusals/set.json").read_bytes())
    was, now = (str(one["summary"]).partition(" not known")[0] for one in (before, made_of))
    assert was == now  # the model knows it all the same
    assert made_of["counts"]["known"] == before["counts"]["known"] - 1
    unusable = [one["counts"]["unusable"] for one in (before, made_of)]
    assert unusable[1]["known"] == unusable[0]["known"] + 1
    assert f"{sum(unusable[1].values())} too long or spelling a" in made_of["summary"]
    (source,) = json.loads((run / "sources.json").read_bytes())["sources"]
    counted = load_manifest(source["folder"]).provenance["examples"]
    assert counted["read"] == counted["used"] == made_of["examples"]


def test_what_cannot_become_a_set_is_one_line_before_a_step(base, tmp_path) -> None:
    """Catches a run that learns to refuse all, or nothing, or that ends after hours of asking."""
    always = {"question": "What is it?", "verifier": "regex", "pattern": "", "match": "search"}
    never = always | {"pattern": "^$^"}
    files = {
        "all": [always],
        "none": [never, {"question": "Who?", "answer": None}],
        "unanswered": [{"question": "Who?", "answer": None}],
        "unfit": [{"question": "How many?", "verifier": "number", "answer": "some"}],
        "long": [always | {"question": "What is it? " * 60}],
        "few": [always, {"question": "Who?", "answer": None}],
        "zero": [always, {"question": "Who?", "answer": None}],
        "twice": [always | {"id": "a"}, never | {"id": "a"}],
    }
    recipes = []
    for name, lines in files.items():
        path = write_lines(tmp_path / f"{name}.jsonl", lines)
        asked: dict[str, Any] = {"conversations__refusals__questions": [str(path)]}
        if name in ("few", "zero"):
            asked["conversations__refusals__share"] = {"few": 0.2, "zero": 0.0}[name]
        recipes.append(refusing_recipe(tmp_path / f"run-{name}", base, **asked))
    gone = {"conversations__refusals__questions": [str(tmp_path / "gone.jsonl")]}
    recipes.append(refusing_recipe(tmp_path / "run-gone", base, **gone))
    alike = {"conversations__factuality__tokens": 1, "conversations__factuality__samples": 1}
    recipes.append(preferring_recipe(tmp_path / "run-alike", base, **alike))
    (found,) = on_ranks(1, train_all, recipes)
    expected = {
        "all": "nothing is left to refuse",
        "none": "the model knows none",
        "unanswered": "none of 1 questions has an answer",
        "unfit": "unfit.jsonl",
        "long": "are more than sequence_length 256",
        "few": "share: 0.2 allows no refusal beside 1 known answers, and 1 questions are to be",
        "zero": "to be declined: raise it",
        "twice": "twice.jsonl",
        "gone": "conversations.refusals.questions: ",
        "alike": "conversations.factuality.questions: none of 20 questions gives a preference",
    }
    for (name, words), failure in zip(expected.items(), found, strict=True):
        assert failure is not None, name
        assert words in failure[1] and "\n" not in failure[1], failure
        assert ("beyond_share" in failure[1]) == (name == "few"), failure
        assert not (tmp_path / f"run-{name}/checkpoints").exists()
    status = read_status(tmp_path / "run-none")
    assert status is not None and status["state"] == "failed"
