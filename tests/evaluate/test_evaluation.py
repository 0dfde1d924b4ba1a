"""`lyceum evaluate` by suites: what it writes, what fails alone, and its gates."""

import contextlib
import io
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.evaluate.harness.cases import TASKS
from tests.parity.ranks import on_ranks
from tests.training.runs import recipe_of, train_here, write_text
from trainer.errors import (
    DataError,
    GateError,
    LyceumError,
    RecipeError,
    StopRequested,
    TrainingError,
)
from trainer.evaluate import evaluation, stopping
from trainer.evaluate.command import evaluate_command
from trainer.evaluate.options import EvaluationOptions
from trainer.evaluate.own_text import EvaluationText
from trainer.evaluate.records import RecordFile
from trainer.evaluate.suites import MODULES
from trainer.evaluate.suites.suite import ItemRecord
from trainer.recipe import Recipe
from trainer.recovery import FolderLock

FEW = EvaluationOptions(limit=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    write_text(folder)
    assert on_ranks(1, train_here, recipe_of(folder / "run", folder, sequence_length=64)) == [None]
    return folder / "run"


def evaluated(
    run: Path, suites: list[str], file: Path | None, options: EvaluationOptions = FEW
) -> tuple[str, int, str]:
    """The name, exit code and line of the error that an evaluation ends with."""
    try:
        evaluate_command(run, suites, file, options)
    except LyceumError as error:
        return type(error).__name__, error.exit_code, str(error)
    return "", 0, ""


def report(
    run: Path, suites: list[str], file: Path, options: EvaluationOptions = FEW, ranks: int = 1
) -> dict[str, Any]:
    assert on_ranks(ranks, evaluated, run, suites, file, options)[0] == ("", 0, "")
    written: dict[str, Any] = json.loads(file.read_text())
    return written


def test_every_built_in_suite_runs_or_says_what_it_needs(run: Path, tmp_path: Path) -> None:
    """Would catch a suite that ends the others, or that is left out in silence."""
    found = report(run, [], tmp_path / "all.json")
    assert {*found["suites"], *found["missing"]} == set(MODULES)
    assert found["suites"]["perplexity"]["bits_per_byte"] > 0
    for suite, figures in found["figures"].items():
        lines = (tmp_path / "all.records" / f"{suite}.jsonl").read_text().splitlines()
        assert len(lines) == found["items"][suite]
        answered = found["items"][suite] - sum(found["failed"].get(suite, {}).values())
        for figure in figures.values():
            assert 1 <= figure["items"] <= answered and figure["in_corpus"] is not None


def test_records_name_the_documents_that_hold_an_item(run: Path, tmp_path: Path) -> None:
    """Would catch an overlap that nobody can look up."""
    lines = [json.dumps({"text": "nothing of it stands anywhere else at all " * 4})]
    (tmp_path / "other.jsonl").write_text("\n".join(lines))
    own = report(run, ["memorisation"], tmp_path / "own.json")
    records = (tmp_path / "own.records" / "memorisation.jsonl").read_text().splitlines()
    # What is asked to be gone on with stands in the training text by definition.
    assert all(json.loads(line)["in_corpus"] for line in records)
    assert {
        one["in_corpus"] == one["items"] for one in own["figures"]["memorisation"].values()
    } == {True}
    texts = EvaluationOptions(texts=(str(tmp_path / "other.jsonl"),))
    other = report(run, ["perplexity"], tmp_path / "other.json", texts)
    assert other["figures"]["perplexity"]["nats"]["in_corpus"] is None


def test_a_gate_ends_the_command_with_its_code_and_by_how_much(run: Path, tmp_path: Path) -> None:
    """Would catch a gate that is judged and forgotten, or an evaluation that it costs."""
    file = tmp_path / "gated.json"
    gates = EvaluationOptions(gates=("perplexity/nats < 1", "perplexity/nats > 1"))
    kind, code, line = on_ranks(1, evaluated, run, ["perplexity"], file, gates)[0]
    assert (kind, code) == (GateError.__name__, 5)
    assert line.startswith("1 of 2 gates failed: perplexity/nats is ") and "above 1 by" in line
    written = json.loads(file.read_text())
    assert [one["passed"] for one in written["gates"]] == [False, True]
    base = EvaluationOptions(gates=("perplexity/nats within 1%",), base=file)
    assert on_ranks(1, evaluated, run, ["perplexity"], None, base)[0] == ("", 0, "")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"gates": ("bias/gap < 0.1",)}, "the suite bias is not measured"),
        ({"gates": ("perplexity/nat < 0.1",)}, "did you mean nats?"),
        ({"gates": ("perplexity/nats within 1%",)}, "give the --json of an evaluation of that"),
        ({"gates": ("perplexity is good",)}, "is not a gate; expected"),
        (
            {"gates": ("perplexity/nats within 1%",), "base": Path("absent")},
            "--base absent: cannot",
        ),
    ],
)
def test_a_gate_that_cannot_be_judged_is_one_line(
    run: Path, options: dict[str, Any], line: str
) -> None:
    """Would catch a gate that passes since nobody measured what it is about."""
    kind, code, said = on_ranks(
        1, evaluated, run, ["perplexity"], None, EvaluationOptions(**options)
    )[0]
    assert (kind, code) == (RecipeError.__name__, 2) and line in said


def trained_and_evaluated(recipe: Recipe, *options: EvaluationOptions) -> list[Any]:
    """How each evaluation of a run's perplexity ends, once it is trained."""
    assert train_here(recipe) is None
    return [evaluated(Path(recipe.run), ["perplexity"], None, one) for one in options]


def test_a_runs_base_is_compared_with_over_the_same_items(run: Path, tmp_path: Path) -> None:
    """Would catch a figure over all items that is held to the base's over a few of them."""
    gate = "perplexity/nats within 50%"
    recipe = recipe_of(
        *(tmp_path / "run", run.parent),
        **{"steps": 1, "sequence_length": 64, "init_from": str(run)},
        evaluate={"suites": ["perplexity"], "limit": 3, "gates": [gate]},
    )
    options = [EvaluationOptions(limit=limit, gates=(gate,)) for limit in (3, 4)]
    same, other = on_ranks(1, trained_and_evaluated, recipe, *options)[0]
    assert same == ("", 0, "")
    assert other[:2] == (RecipeError.__name__, 2)
    assert "evaluations/base is of another limit" in other[2]


def test_a_gate_on_what_a_task_does_not_give_is_no_failed_gate(run: Path, tmp_path: Path) -> None:
    """Would catch a mistyped figure that reads as a model's failure, or that costs the others."""
    file = tmp_path / "task.json"
    options = EvaluationOptions(limit=2, tasks_path=TASKS, gates=("ours_letters/leters > 0",))
    kind, code, line = on_ranks(2, evaluated, run, ["ours_letters"], file, options)[0]
    assert (kind, code) == (RecipeError.__name__, 2)
    assert line.startswith("--gate: 'ours_letters/leters > 0': the suite ours_letters gives no ")
    written = json.loads(file.read_text())
    assert written["suites"]["ours_letters"] and written["gates"] == []


def without_text(run: Path, options: EvaluationOptions) -> tuple[str, int, str]:
    """An evaluation of a model behind which no corpus is found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "text_of", lambda *_: EvaluationText())
        return evaluated(run, ["memorisation", "bias"], None, options)


def test_a_gate_on_a_suite_that_cannot_ask_says_what_it_needs(run: Path) -> None:
    """Would catch "not measured" without the reason, which nobody can mend."""
    options = EvaluationOptions(limit=2, gates=("memorisation/extraction < 1",))
    kind, code, line = on_ranks(1, without_text, run, options)[0]
    assert (kind, code) == (RecipeError.__name__, 2)
    assert line.startswith("--gate: 'memorisation/extraction < 1': memorisation: asks for")


def task_without_text(run: Path, tasks: Path) -> tuple[str, int, str]:
    """An evaluation of a task behind which the run's corpora cannot be opened."""
    with pytest.MonkeyPatch.context() as patch:
        gone = EvaluationText(error=RecipeError("the corpora are gone"))
        patch.setattr(evaluation, "text_of", lambda *_: gone)
        return evaluated(run, ["program"], None, EvaluationOptions(tasks_path=tasks))


def test_why_a_task_cannot_ask_has_nothing_to_do_with_corpora(run: Path, tmp_path: Path) -> None:
    """Would catch the corpora's error in place of the task's own reason, and mend."""
    keys = "test_split: train\noutput_type: generate_until\ndoc_to_text: q\ndoc_to_target: q\n"
    data = "dataset_path: json\ndataset_kwargs:\n  data_files: rows.jsonl\nunsafe_code: true\n"
    (tmp_path / "program.yaml").write_text(f"task: program\n{data}{keys}")
    (tmp_path / "rows.jsonl").write_text('{"q": "print(1)"}\n')
    kind, code, line = on_ranks(1, task_without_text, run, tmp_path)[0]
    assert code == 2 and line.startswith("program: runs what the model writes as a program"), kind


def test_a_corpus_that_is_gone_can_be_replaced_by_another(run: Path) -> None:
    """Would catch a mend that only a recipe has, where a text can be named."""
    held = [run.parent / name for name in ("text.jsonl", "shards")]
    for path in held:
        path.rename(path.with_suffix(".gone"))
    try:
        kind, code, line = on_ranks(1, evaluated, run, ["perplexity"], None)[0]
    finally:
        for path in held:
            path.with_suffix(".gone").rename(path)
    assert (kind, code) == (DataError.__name__, 3) and "text.jsonl names no file" in line
    assert line.endswith("; or name text by --corpus or --text")


def test_a_suite_that_fails_loses_no_other(run: Path, tmp_path: Path) -> None:
    """Would catch the figures of an hour that go with the last suite's error."""
    file = tmp_path / "some.json"
    (tmp_path / "empty.jsonl").write_text('{"text": ""}\n')
    options = EvaluationOptions(limit=4, texts=(str(tmp_path / "empty.jsonl"),))
    kind, code, line = on_ranks(1, evaluated, run, ["perplexity", "bias"], file, options)[0]
    assert (kind, code) == (DataError.__name__, 3) and "empty.jsonl: holds no text" in line
    written = json.loads(file.read_text())
    assert list(written["suites"]) == ["bias"] and "perplexity" in written["missing"]


def printed(run: Path, suites: list[str], options: EvaluationOptions) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        evaluate_command(run, suites, Path("-"), options)
    return output.getvalue()


def test_json_to_standard_output_is_json_alone(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a file called "-", and a table before the JSON that a program reads."""
    monkeypatch.chdir(tmp_path)
    options = replace(FEW, records=tmp_path / "records")
    first, second = on_ranks(2, printed, run, ["bias"], options)
    assert json.loads(first)["suites"]["bias"].keys() and second == ""
    assert [path.name for path in tmp_path.iterdir()] == ["records"]


def test_a_second_evaluation_into_the_same_records_ends_at_once(run: Path, tmp_path: Path) -> None:
    """Would catch two processes that tear each other's lines; a lock left by a killed one; and one
    that keeps another suite out.
    """
    file, records = tmp_path / "figures.json", tmp_path / "figures.records"
    with FolderLock(records, "records of", "wait", name=".perplexity.lock"):
        ended = on_ranks(2, evaluated, run, ["perplexity"], file)
        other = report(run, ["bias"], tmp_path / "bias.json", replace(FEW, records=records))
        assert list(other["suites"]) == ["bias"]
    kind, code, line = ended[0]
    assert ended[1] == ended[0] and (kind, code) == (RecipeError.__name__, 2)
    assert f"perplexity in {records} is being written by process {os.getpid()} on " in line
    assert line.endswith("stop it, or name another folder (--records)")
    assert not file.exists() and not (records / "perplexity.jsonl").exists()
    (records / ".perplexity.lock").write_text('{"host": "gone", "pid": 1}')
    assert report(run, ["perplexity"], file)["suites"]["perplexity"]


def signalled(run: Path, number: int, records: Path) -> tuple[str, int, str]:
    """An evaluation whose first rank gets a signal when it has recorded three items."""
    add, seen = RecordFile.add, []

    def counted(self: RecordFile, record: ItemRecord) -> None:
        add(self, record)
        seen.append(record)
        if len(seen) == 3:
            os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stopping, "ANSWERS_BETWEEN", 1)
        patch.setattr(RecordFile, "add", counted)
        return evaluated(run, ["bias"], None, EvaluationOptions(limit=12, records=records))


@pytest.mark.parametrize(("ranks", "number"), [(1, signal.SIGINT), (2, signal.SIGTERM)])
def test_a_stopped_evaluation_says_what_is_kept_and_goes_on(
    ranks: int, number: signal.Signals, run: Path, tmp_path: Path
) -> None:
    """Would catch Ctrl-C without a word, ranks that end apart, and items that are asked twice."""
    records = tmp_path / "records"
    for kind, code, line in on_ranks(ranks, signalled, run, number, records):
        assert (kind, code) == (StopRequested.__name__, 75)
        assert line.startswith(str(run)) and f": {number.name} while bias was measured; " in line
        assert line.endswith(
            f"items that are answered are kept, and the same command goes on from them: {records}"
        )
    file = records / "bias.jsonl"
    kept = file.read_text()
    options = EvaluationOptions(limit=12, records=records)
    found = report(run, ["bias"], tmp_path / "figures.json", options, ranks)
    assert 3 <= kept.count("\n") < found["items"]["bias"] == file.read_text().count("\n")
    assert file.read_text().startswith(kept)


def interrupted(run: Path) -> tuple[str, int, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "text_of", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        return evaluated(run, ["bias"], None)


def test_an_interrupt_before_the_first_item_is_one_line(run: Path) -> None:
    """Would catch Ctrl-C while a corpus is searched that ends without a word."""
    kind, code, line = on_ranks(1, interrupted, run)[0]
    assert (kind, code) == (StopRequested.__name__, 75) and "the same command goes on" in line


def test_a_model_that_has_diverged_is_said_to_have(run: Path, tmp_path: Path) -> None:
    """Would catch figures over nothing, or NaN in them, where every logit is NaN."""
    result = on_ranks(1, evaluated_with_nan, run, tmp_path / "nan.json")[0]
    assert result[:2] == (TrainingError.__name__, 4) and "none of its" in result[2]
    written = json.loads((tmp_path / "nan.json").read_text())
    assert written["suites"] == {"perplexity": {}} and "not finite" in str(written["failed"])


def evaluated_with_nan(run: Path, file: Path) -> tuple[str, int, str]:
    from trainer.evaluate import opened

    def broken(reader: Any, chunks: Any) -> None:
        for parameter in chunks[0].parameters():
            parameter.data.fill_(torch.nan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opened, "load_weights", broken)
        return evaluated(run, ["perplexity"], file, EvaluationOptions())


def test_plots_of_what_was_not_measured_are_refused(run: Path, tmp_path: Path) -> None:
    """Would catch an empty picture, or none, without a word."""
    options = EvaluationOptions(plots=tmp_path / "plots")
    kind, code, line = on_ranks(1, evaluated, run, ["perplexity"], None, options)[0]
    assert (kind, code) == (RecipeError.__name__, 2) and "nothing drawn" in line


def test_mistakes_come_before_the_model_is_read(tmp_path: Path) -> None:
    """Would catch a typing error that costs a minute of loading, or twelve of measuring."""
    absent = tmp_path / "absent"
    with pytest.raises(RecipeError, match="there is no folder"):
        evaluate_command(absent, [], absent / "figures.json")
    with pytest.raises(RecipeError, match="is a folder; name a file in it"):
        evaluate_command(absent, [], tmp_path)
    with pytest.raises(RecipeError, match="is not a gate"):
        evaluate_command(absent, [], None, EvaluationOptions(gates=("x",)))
    unread = EvaluationOptions(gates=("bias/gap < 1",), base=absent)
    with pytest.raises(RecipeError, match="compare with, and no --gate has it; leave it out"):
        evaluate_command(absent, [], None, unread)
    for given, option in (({"chat": True}, "--chat"), ({"shots": 0}, "--shots")):
        with pytest.raises(RecipeError, match=f"{option}: is for tasks of lm-eval"):
            evaluate_command(absent, ["bias"], None, EvaluationOptions(**given))
