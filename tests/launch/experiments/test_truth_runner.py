"""The experiment on truth, whole and small: every step, every suite, and the files in the end."""

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from launch.experiments.truth.chain import BLENDS, STEPS
from launch.experiments.truth.goals import GOALS
from launch.experiments.truth.replay import WEIGHTS
from launch.experiments.truth.results import BESIDE
from tests.parity.ranks import on_ranks
from tests.training.runs import recipe_of, train_here, write_text
from trainer.observe import read_metrics


def write_questions(folder: Path) -> Path:
    """Of twelve a text is right that has a letter in it; of eight nobody can know the answer."""
    lines = [
        {"id": f"known {number}", "question": f"What is {number}?", "verifier": "regex"}
        | {"pattern": "[a-z]", "match": "search", "kind": "number"}
        for number in range(12)
    ]
    lines += [{"id": f"no {n}", "question": f"Who is {n}?", "answer": None} for n in range(8)]
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> "Command":
    """The command over an untrained model in SmolLM2's place, run once."""
    folder = tmp_path_factory.mktemp("truth")
    write_text(folder)
    recipe = recipe_of(folder / "base", folder, sequence_length=640, steps=1, model__layers=2)
    assert on_ranks(1, train_here, recipe) == [None]
    command = Command(folder)
    command.run()
    return command


class Command:
    """The experiment's command in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "out"
        self._cache = folder / "cache"
        self._environment = os.environ | {"LYCEUM_CACHE": str(self._cache)}
        questions = write_questions(folder)
        words = ["--model", str(folder / "base"), "--questions", str(questions), "--seeds", "0"]
        words += ["--limit", "6", "--into", str(self.out), "sequence_length=160"]
        self._words = [sys.executable, "-m", "launch.experiments.truth", *words]

    def records(self, model: str) -> Path:
        """The file that says what a model was asked."""
        found = self._cache.rglob(f"{model}/measured.json")
        return next(iter(found))

    def run(self, *words: str) -> str:
        """What it prints."""
        done = subprocess.run(
            [*self._words, *words],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-2000:]
        return done.stdout


def labels() -> list[str]:
    """The models of a seed, in the order of the table."""
    return ["base", *STEPS.values(), *(one.label for one in BLENDS)]


def test_every_model_has_every_figure(run: "Command") -> None:
    """Would catch a step or a suite that is left out, and a figure that no one measures."""
    found = json.loads((run.out / "figures.json").read_text())["models"]
    assert list(found) == labels()
    goals = {f"{goal.suite}/{goal.figure}" for goal in GOALS}
    for label, figures in found.items():
        drawn_only = label in [one.label for one in BLENDS if one.drawn_only]
        expected = {one for one in goals if one.startswith("held-out/")} if drawn_only else goals
        assert expected <= figures.keys(), label
        assert all(("verdict" in figures[name]) == (label != "base") for name in expected), label
    beside = {f"{suite}/{name}" for suite, name in BESIDE if name != "hallucination/unanswerable"}
    assert beside <= found["base"].keys()


def test_refusals_are_learned_beside_what_is_replayed(run: "Command") -> None:
    """Would catch documentation or answers that no batch has, or that crowd refusals out."""
    (folder,) = run.records("base").parents[2].rglob("seed-0/refusals")
    mixture = yaml.safe_load((folder / "recipe.yaml").read_text())["data"]["mixture"]
    names = [Path(one["corpus"]).name.split("?")[0] for one in mixture]
    weights = {name.split("-")[0]: one["weight"] for name, one in zip(names, mixture, strict=True)}
    assert weights == {**WEIGHTS, "refusals": 0.5}
    shares = read_metrics(folder)[-1]
    assert all(shares[f"mixture/{name}"] > 0 for name in names), shares


def test_reinforcement_is_asked_for_what_a_user_may_want(run: "Command") -> None:
    """Would catch requests that are written down and never asked."""
    (folder,) = run.records("base").parents[2].rglob("seed-0/reinforce")
    texts = [path.read_text(encoding="utf-8") for path in (folder / "samples").iterdir()]
    kinds = {json.loads(line)["kind"] for text in texts for line in text.split("\n") if line}
    assert "request" in kinds and kinds <= {"request", "number", None}


def test_the_table_and_the_drawing_tell_of_each_model(run: "Command") -> None:
    """Would catch a model that is measured and not shown, and a drawing that no browser reads."""
    table = (run.out / "table.md").read_text()
    drawing = ElementTree.fromstring((run.out / "trade_off.svg").read_text())
    told = " ".join(drawing.itertext())
    drawn = {one.label: one.short_label for one in BLENDS}
    for label in labels():
        assert table.count(f"| {label} |") == 3
        assert f"{drawn.get(label, label)}: hallucination" in told
    assert "--limit 6 sequence_length=160`" in table, "with all that makes the figures others"
    assert "Model: base, LoRA" in table and "SmolLM2-135M" not in table


def test_figures_are_counted_again_from_the_kept_records_alone(run: "Command") -> None:
    """Would catch records of which a model or an answer is missing, and a seed trained anew."""
    before = json.loads((run.out / "figures.json").read_text())["models"]
    kept = {path.name: path.read_bytes() for path in (run.out / "records").iterdir()}
    assert sorted(kept) == ["base.tar.xz", "seed-0.tar.xz"]
    said = run.run("--kept", "0")
    after = json.loads((run.out / "figures.json").read_text())
    assert json.dumps(after["models"]) == json.dumps(before) and "step 1/" not in said
    assert after["notes"]["Seeds"] == "1 (0; counted from kept records: 0)"
    assert kept == {path.name: path.read_bytes() for path in (run.out / "records").iterdir()}


def test_what_is_there_is_neither_trained_nor_asked_again(run: "Command") -> None:
    """Would catch an interrupted seed that begins anew, and figures that hang on the run."""
    before = {path.name: path.read_text() for path in run.out.iterdir() if path.is_file()}
    blended = next(f"seed-0-{one.name}" for one in BLENDS if one.drawn_only)
    run.records(blended).write_text('{"held-out": "of another model"}')
    said = run.run()
    assert "step 1/" not in said
    asked = [line for line in said.splitlines() if line.endswith("items")]
    assert asked == [f"{blended}: held-out: 6 items"]  # negative control: it would be seen
    after = {path.name: path.read_text() for path in run.out.iterdir() if path.is_file()}
    assert after["trade_off.svg"] == before["trade_off.svg"]
    models = [json.loads(one["figures.json"])["models"] for one in (before, after)]
    assert json.dumps(models[0]) == json.dumps(models[1])
