"""`lyceum evaluate` and `lyceum generate` on a run that was really trained."""

import contextlib
import io
import json
import logging
import math
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.parity.ranks import on_ranks
from tests.training.runs import recipe_of, train_here, write_text
from trainer.data.manifest import load_manifest
from trainer.data.shards import ShardReader
from trainer.data.tokenizer import load_tokenizer
from trainer.errors import CheckpointError, RecipeError
from trainer.evaluate.command import evaluate_command
from trainer.evaluate.opened import reading_keys, reading_recipe
from trainer.evaluate.options import EvaluationOptions
from trainer.evaluate.sampling import Sampling
from trainer.evaluate.writing import generate_command
from trainer.observe import read_metrics
from trainer.recipe import Recipe, load_recipe

GREEDY = Sampling(tokens=8, temperature=0.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained at a layout that one reading process cannot have."""
    folder = tmp_path_factory.mktemp("run")
    write_text(folder)
    keys = {"parallel__tensor": 2, "parallel__sequence": True, "zero__stage": 1}
    recipe = recipe_of(folder / "run", folder, evaluate__every=8, **keys)
    assert on_ranks(2, train_here, recipe) == [None, None]
    return folder / "run"


def figures(run: Path, file: Path, overrides: tuple[str, ...] = ()) -> dict[str, float]:
    evaluate_command(run, ["perplexity"], file, EvaluationOptions(overrides))
    return json.loads(file.read_text())["suites"]["perplexity"] if file.exists() else {}


def printed(run: Path, prompts: Path) -> str:
    return printed_by(run, prompts, GREEDY)


def printed_by(run: Path, file: Path, sampling: Sampling, together: int = 1) -> str:
    """What `--prompts`, or of a .jsonl file `--jsonl`, prints on this rank."""
    files = (None, file) if file.suffix == ".jsonl" else (file, None)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        generate_command(run, None, *files, sampling, together)
    return output.getvalue()


def printed_each(run: Path, calls: list[tuple[Any, ...]]) -> list[str]:
    return [printed_by(run, *call) for call in calls]


def printed_and_told(run: Path, calls: list[tuple[Any, ...]]) -> tuple[list[str], list[str]]:
    told: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("trainer.evaluate").addHandler(handler)
    return printed_each(run, calls), told


def test_evaluation_gives_the_loss_of_the_run(run: Path, tmp_path: Path) -> None:
    """Catches other text, other weights or another mean than the training run's own validation."""
    alone = on_ranks(1, figures, run, tmp_path / "alone.json")[0]
    together = on_ranks(2, figures, run, tmp_path / "together.json")[0]
    trained = read_metrics(run)[-1]["eval/loss"]
    # Rounding alone: the same sum in another order.
    assert alone["nats"] == pytest.approx(trained, abs=1e-5)
    assert together["nats"] == pytest.approx(trained, abs=1e-5)
    assert alone["perplexity"] == pytest.approx(math.exp(trained), rel=1e-4)


def test_bits_are_counted_against_the_bytes_of_the_documents(run: Path, tmp_path: Path) -> None:
    """Catches bytes of padding, of the end of text, or of tokens that nothing predicts."""
    corpus = run.parent / "shards"
    manifest, tokenizer = load_manifest(corpus), load_tokenizer(corpus / "tokenizer")
    expected = 0
    for shard in manifest.splits["validation"].shards:
        reader = ShardReader(corpus, shard, manifest.token_dtype)
        for index, length in enumerate(reader.lengths.tolist()):
            text = tokenizer.decode(reader.tokens(index, 1, length - 1).tolist())
            expected += len(text.encode())
    found = on_ranks(1, figures, run, tmp_path / "alone.json")[0]
    assert found["bytes"] == expected
    bits = found["nats"] * found["tokens"] / math.log(2)
    assert found["bits_per_byte"] == pytest.approx(bits / expected)


def test_a_text_is_printed_after_its_prompt(run: Path, tmp_path: Path) -> None:
    """Catches lost prompts, and every rank printing its own copy."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("the model\nreads\n")
    alone = on_ranks(1, printed, run, prompts)[0]
    first, second = alone.split("\n\n")
    assert first.startswith("the model") and second.startswith("reads")
    # Of a pipe, which only one rank can read, every rank gets the prompts.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=(prompts.read_bytes(),), daemon=True).start()
    assert on_ranks(2, printed, run, pipe) == [alone, ""]


def test_mistakes_are_named_before_anything_is_loaded(run: Path, tmp_path: Path) -> None:
    """Catches a typing error that costs a minute of loading, or ends in a stack trace."""
    with pytest.raises(RecipeError, match="temperature"):
        generate_command(run, "", None, None, Sampling(temperature=-1.0))
    with pytest.raises(RecipeError, match="cannot be read"):
        generate_command(run, None, tmp_path / "absent.txt", None, GREEDY)
    (tmp_path / "bytes.txt").write_bytes(b"caf\xe9")
    with pytest.raises(RecipeError, match=r"not UTF-8 text \(byte 3\)"):
        generate_command(run, None, tmp_path / "bytes.txt", None, GREEDY)
    with pytest.raises(CheckpointError, match="does not exist"):
        generate_command(tmp_path / "absent", "", None, None, GREEDY)


def layouts_of(recipe: Recipe) -> dict[int, dict[str, Any]]:
    """What is read at without any keys, by the number of ranks."""
    return {
        ranks: reading_recipe(recipe, ranks).parallel.model_dump(exclude_defaults=True)
        for ranks in (1, 2, 3, 4, 6, 8, 24)
    }


def test_every_number_of_ranks_finds_a_layout(run: Path) -> None:
    """Catches ranks that are refused where replicas can use them, and a matrix cut unevenly."""
    recipe = load_recipe(run / "recipe.yaml")  # 4 layers, 2 key/value heads
    assert layouts_of(recipe) == {
        **{1: {}, 2: {"tensor": 2}, 3: {}, 4: {"tensor": 2, "pipeline": 2}, 6: {"tensor": 2}},
        **{8: {"tensor": 2, "pipeline": 4}, 24: {"tensor": 2, "pipeline": 4}},
    }
    nine_heads = recipe.replaced(
        {
            "model.heads": 9,
            "model.kv_heads": 3,
            "model.hidden": 72,
            "model.layers": 30,
            "model.ffn": 144,
        }
        | {"parallel.tensor": 1, "parallel.sequence": False, "model.vocab": 384}
    )
    assert layouts_of(nine_heads) == {
        **{1: {}, 2: {"pipeline": 2}, 3: {"tensor": 3}, 4: {"pipeline": 2}},
        **{6: {"tensor": 3, "pipeline": 2}, 8: {"pipeline": 2}},
        24: {"tensor": 3, "pipeline": 2},
    }


def test_a_model_is_read_without_the_gates_of_its_run(run: Path) -> None:
    """Catches a checkpoint that no command opens, since its gates compare with a base."""
    gates = ["bias/gap within 1%", "bias/gap < 0.1"]
    recipe = load_recipe(run / "recipe.yaml").replaced(
        {"init_from": str(run), "evaluate.suites": ["bias"], "evaluate.gates": gates}
        | {"checkpoint.best": "eval/bias/gap"}
    )
    found = reading_recipe(recipe, 2)
    assert (found.evaluate.gates, found.init_from) == ((), None)


def test_a_layout_that_is_named_is_read_at(run: Path) -> None:
    """Catches a named layout that is passed over, and keys that reading would not read."""
    recipe = load_recipe(run / "recipe.yaml")
    named = reading_keys(["parallel.pipeline=2", "precision=bf16", "parallel.context=2"])
    keys = {"pipeline": 2, "context": 2}
    assert named == {"parallel": keys, "precision": "bf16"}
    found = reading_recipe(recipe, 8, keys)
    assert found.parallel.model_dump(exclude_defaults=True) == keys
    assert found.data_parallel(8) == 2
    with pytest.raises(RecipeError, match=r"model\.heads: 4 is not a multiple of parallel\.tensor"):
        reading_recipe(recipe, 3, {"tensor": 3})
    with pytest.raises(RecipeError, match="does not divide 3 ranks"):
        reading_recipe(recipe, 3, {"tensor": 2})
    for bad in ("model.layers=2", "parallel=3", "parallel.tensor.x=2"):
        with pytest.raises(RecipeError, match="leave other keys out"):
            reading_keys([bad])
    with pytest.raises(RecipeError, match="give fp32 or bf16"):
        reading_keys(["precision=fp16"])


def test_replicas_and_stages_find_the_same_figures(run: Path, tmp_path: Path) -> None:
    """Catches texts that a replica leaves out, or that two of them count."""
    (alone,) = on_ranks(1, figures, run, tmp_path / "alone.json")
    for ranks, overrides in ((3, ()), (4, ("parallel.pipeline=2", "parallel.context=2"))):
        found = on_ranks(ranks, figures, run, tmp_path / f"{ranks}.json", overrides)[0]
        assert found["nats"] == pytest.approx(alone["nats"], abs=1e-5)
        assert found["tokens"] == alone["tokens"]


def test_a_prompt_is_continued_alike_alone_and_beside_a_long_one(run: Path, tmp_path: Path) -> None:
    """Catches a long prompt that takes a short one's room, and draws that neighbours share."""
    long, short = "a text " * 9, "the model"
    files = [tmp_path / name for name in ("alone.txt", "long.txt", "both.txt")]
    for file, lines in zip(files, ([short], [long], [long, "", short, short]), strict=True):
        file.write_text("\n".join(lines) + "\n")
    ways = [Sampling(tokens=100, temperature=heat, seed=3) for heat in (1.0, 0.0)]
    calls = [(file, sampling) for sampling in ways for file in files]
    shown = on_ranks(1, printed_each, run, calls)[0]
    for sampling, (alone, beside, both) in zip(ways, (shown[:3], shown[3:]), strict=True):
        first, second, again = (text.rstrip("\n") for text in both.split("\n\n"))
        assert [first, second] == [beside.rstrip("\n"), alone.rstrip("\n")]
        assert (again == second) == (sampling.temperature == 0), "drawn anew"
    # Greedy, to the end of the sequence, not to that of the long prompt's row.
    tokenizer = load_tokenizer(run.parent / "shards" / "tokenizer")
    room = 32 - len([*tokenizer.start, *tokenizer.encode(short)])
    assert room - 2 <= len(tokenizer.encode(second.removeprefix(short))) <= room


def warnings_of(run: Path, file: Path, sampling: Sampling) -> list[str]:
    """What `--prompts` warns of on this rank."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("trainer").addHandler(handler)
    printed_by(run, file, sampling)
    return told


def test_texts_that_end_at_the_longest_one_are_told(run: Path, tmp_path: Path) -> None:
    """Catches 100 tokens asked for, 27 written, and not a word of why."""
    file = tmp_path / "prompts.txt"
    file.write_text("the model\nreads\n")
    (line,) = on_ranks(1, warnings_of, run, file, Sampling(tokens=100, temperature=0.0))[0]
    assert "2 of 2 texts end before --tokens 100, at the 32 tokens, prompt included" in line
    assert on_ranks(1, warnings_of, run, file, GREEDY) == [[]]


def test_records_are_answered_in_json_lines(run: Path, tmp_path: Path) -> None:
    """Catches lost keys and line breaks, a lost order, and texts that end unlike the prompts'."""
    records = [
        {"prompt": "the model\nreads", "id": 7},
        {"messages": [{"role": "user", "content": "Hi", "mood": "dry"}], "id": 8},
        {"prompt": "the model"},
    ]
    asked, plain = tmp_path / "asked.jsonl", tmp_path / "plain.txt"
    asked.write_text("\n".join(map(json.dumps, records)))
    plain.write_text("the model")
    calls = [(file, GREEDY, together) for together in (1, 2) for file in (asked, plain)]
    shown, told = on_ranks(1, printed_and_told, run, calls)[0]
    assert told[0] == """of 3 records: 2 with unread "id", 1 with unread turns' mood"""
    one, two = shown[:2], shown[2:]
    answered = [json.loads(line) for line in one[0].splitlines()]
    assert [{**answer, "generated": "", "finish_reason": ""} for answer in answered] == [
        {**record, "generated": "", "finish_reason": ""} for record in records
    ]
    assert {answer["finish_reason"] for answer in answered} <= {"length", "stop"}
    assert one[1] == "the model" + answered[2]["generated"] + "\n"
    assert one == two, "well-separated logits in fp32"


def test_prompts_without_room_are_named_by_their_line(run: Path, tmp_path: Path) -> None:
    """Catches a refusal that does not say which of a thousand prompts, or comes after some."""
    file = tmp_path / "prompts.txt"
    file.write_text("the model\n\n" + "long " * 90)
    with pytest.raises(AssertionError, match=r"prompts.txt line 3: the prompt has \d+ tokens"):
        on_ranks(1, printed, run, file)
