"""From a published model to an aligned one that transformers reads, by commands alone."""

import contextlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.hugging_face.models import make_model
from tests.parity.ranks import on_ranks
from tests.training.sets import write_sets
from trainer.cli import main
from trainer.conversations.template import CHATML
from trainer.conversations.turns import Message
from trainer.observe import read_metrics

QUESTIONS = ["What is 3?", "Sure?", "tea"]
TUNING: dict[str, Any] = {
    **{"stage": "sft", "steps": 4, "sequence_length": 128, "device": "cpu"},
    **{"batch": {"sequences": 8, "micro": 4}, "optimizer": {"lr": 3e-3}},
    **{"schedule": {"warmup": 0, "name": "constant"}, "conversations": {"validation": 0.2}},
    **{"data": {"workers": 0}, "observe": {"tensorboard": False}},
}
CUT = {
    ("tokenizer_config.json", "model_max_length"): 96,
    ("generation_config.json", "max_length"): 96,
}
"""Where texts are cut, in tokens: as long as the published model's positions."""


def publish(folder: Path) -> None:
    """A chat model as its makers would: with its template, biases, and windows in some layers."""
    windows = {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1}
    make_model(folder / "published", "qwen2", {"max_position_embeddings": 96, **windows})
    (folder / "published" / "chat_template.jinja").write_text(CHATML)
    for (name, key), length in CUT.items():
        file = folder / "published" / name
        file.write_text(json.dumps(json.loads(file.read_text()) | {key: length}))


def write_recipes(folder: Path) -> None:
    """Recipes without a model section: that is the base's."""
    write_sets(folder)
    stages = {
        "sft": ("base", "conversations", {"conversations": {"validation": 0.2, "system": "Hi."}}),
        "preference": (
            *("tuned", "pairs"),
            {"stage": "preference", "evaluate": {"every": 4}, "sequence_length": 112},
        ),
    }
    for name, (base, data, keys) in stages.items():
        tree = {**TUNING, "init_from": base, **keys}
        tree["data"] = {"workers": 0, "mixture": [{"corpus": f"{data}.jsonl"}]}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(tree))


def obey(folder: Path, commands: list[str]) -> list[tuple[int, str, str]]:
    """What each command returned in this folder, and what it wrote to its two outputs."""
    os.chdir(folder)
    told = []
    for words in map(str.split, commands):
        with (
            contextlib.redirect_stdout(io.StringIO()) as shown,
            contextlib.redirect_stderr(io.StringIO()) as errors,
        ):
            code = main(words)
        told.append((code, shown.getvalue(), errors.getvalue()))
    return told


def begin(folder: Path) -> list[tuple[int, str, str]]:
    """On one rank: publish, import, tune, align, export."""
    os.environ["LYCEUM_CACHE"] = str(folder / "rendered")
    publish(folder)
    write_recipes(folder)
    commands = [
        "import published base",
        "train sft.yaml run=tuned --show",
        "train sft.yaml run=tuned",
        "train preference.yaml run=aligned init_from=tuned",
        "export aligned out",
    ]
    return obey(folder, commands)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, str, str]]]:
    """The folder of all, and what the commands told."""
    folder = tmp_path_factory.mktemp("chain")
    return folder, on_ranks(1, begin, folder)[0]


Chain = tuple[Path, list[tuple[int, str, str]]]


def test_every_command_of_the_chain_works(chain: Chain) -> None:
    """Catches a link that only its own tests use rightly."""
    assert [code for code, _, _ in chain[1]] == [0] * 5, chain[1]
    shown = chain[1][1][1]
    assert "hidden: 64" in shown and "warning" not in shown


def both_answers(folder: Path) -> tuple[list[str], list[str]]:
    """Greedy answers of ours through the chat, and of transformers with its own template."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from trainer.evaluate.chat import Speaker
    from trainer.evaluate.opened import open_model
    from trainer.evaluate.sampling import Sampling

    greedy = Sampling(tokens=24, temperature=0.0)
    with open_model(folder / "aligned", 1) as model:
        speaker = Speaker(model)
        ours = ["".join(speaker.answer([Message("user", q)], greedy)) for q in QUESTIONS]
    model = AutoModelForCausalLM.from_pretrained(folder / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "out")
    ends = json.loads((folder / "out" / "generation_config.json").read_text())["eos_token_id"]
    theirs = []
    for question in QUESTIONS:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            **{"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True},
        )
        made = model.generate(**prompt, do_sample=False, max_new_tokens=24)
        new = made[0, prompt["input_ids"].shape[1] :].tolist()
        new = new[: next((place for place, token in enumerate(new) if token in ends), len(new))]
        theirs.append(tokenizer.decode(new))
    return ours, theirs


def test_transformers_answers_as_the_chat_does(chain: Chain) -> None:
    """Catches a template, an end of turn or weights that an export loses."""
    ours, theirs = on_ranks(1, both_answers, chain[0])[0]
    assert ours == theirs
    assert len(set(ours)) > 1, "one answer for all proves little"


def test_what_came_with_the_model_leaves_with_it(chain: Chain) -> None:
    """Catches a family, a licence or an end of turn that two stages of tuning lose."""
    folder = chain[0]
    published, exported = (
        json.loads((folder / place / "config.json").read_text()) for place in ("published", "out")
    )
    # The first stage read more than the base's 96 positions, the second less than the first.
    assert exported == published | {"max_position_embeddings": 128}
    for name, key in CUT:
        assert json.loads((folder / "out" / name).read_text())[key] == 128, name
    for name in ("LICENSE", "chat_template.jinja", "tokenizer.json"):
        same = (folder / "published" / name).read_bytes() == (folder / "out" / name).read_bytes()
        assert same, name
    before, after = (
        set(json.loads((folder / place / "generation_config.json").read_text())["eos_token_id"])
        for place in ("published", "out")
    )
    assert before <= after and 2 in after, "<|im_end|> ends an answer"


def read(folder: Path) -> list[tuple[int, str, str]]:
    """On one rank: what reads a checkpoint, of both stages."""
    os.environ["LYCEUM_CACHE"] = str(folder / "rendered")
    commands = []
    for run in ("tuned", "aligned"):
        commands += [f"evaluate {run} --json {run}.json", f"corpus trace {run} 2"]
    return obey(folder, [*commands, "generate tuned --prompt What --tokens 4"])


def test_checkpoints_of_every_stage_are_read(chain: Chain) -> None:
    """Catches a verb that only knows pre-training."""
    folder, _ = chain
    told = on_ranks(1, read, folder)[0]
    assert [code for code, _, _ in told] == [0] * 5, told
    assert "conversations.jsonl line " in told[1][1] and "pairs.jsonl line " in told[3][1]
    assert told[4][1].startswith("What")
    figures = json.loads((folder / "tuned.json").read_text())["suites"]["perplexity"]
    assert 0 < figures["nats"] < 20


def prolong(folder: Path) -> list[tuple[int, str, str]]:
    """On one rank: go on with each stage without its base, and read it where no set is rendered."""
    told = []
    for recipe, base, run in (("sft", "base", "tuned"), ("preference", "tuned", "aligned")):
        os.environ["LYCEUM_CACHE"] = str(folder / "rendered")
        (folder / base).rename(folder / f"{base}-aside")
        told += obey(folder, [f"train {recipe}.yaml run={run} steps=5"])
        os.environ["LYCEUM_CACHE"] = str(folder / "cache")
        told += obey(folder, [f"evaluate {run}", f"corpus trace {run} 5"])
    return told


def test_a_run_goes_on_without_its_base(chain: Chain, tmp_path: Path) -> None:
    """Catches a resume, an evaluation or a trace that needs what only the beginning needed."""
    folder = tmp_path / "moved"
    shutil.copytree(chain[0], folder)
    told = on_ranks(1, prolong, folder)[0]
    assert [code for code, _, _ in told] == [0] * 6, told
    assert [len(read_metrics(folder / run)) for run in ("tuned-aside", "aligned")] == [5, 5]
