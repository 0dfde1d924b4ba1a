"""What is wrong with a task of lm-eval's, or its data, is told in a line and costs it alone."""

import json
import logging
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.harness.by_transformers import ByTransformers
from tests.evaluate.harness.cases import measured
from trainer.data.tokenizer import Tokenizer
from trainer.errors import DataError, RecipeError
from trainer.evaluate.harness import check_tasks, names, network
from trainer.evaluate.harness.asking import Unaskable, WritingOptions, seed_of, text_request
from trainer.evaluate.harness.figures import kinds_of
from trainer.evaluate.harness.loading import LoadedTasks, load_tasks
from trainer.evaluate.intervals import figure_of
from trainer.evaluate.respondent import ContinuationQuery
from trainer.recipe.model import ModelSection

lm_eval = pytest.importorskip("lm_eval", reason="the extra `evaluate` is not installed")


def _task(folder: Path, name: str, keys: str, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(
        f"task: {name}\ndataset_path: json\ndataset_kwargs:\n  data_files: {name}.jsonl\n"
        f"test_split: train\n{keys}"
    )
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


CHOICES = "output_type: multiple_choice\ndoc_to_text: q\ndoc_to_choice: c\ndoc_to_target: a\n"
ROWS = [{"q": text, "c": ["mat", "dog"], "a": n % 2} for n, text in enumerate(["sat", "ran", "on"])]


def test_an_item_without_an_answer_fails_alone(
    model: tuple[Tokenizer, ModelSection], respondent: ByTransformers, tmp_path: Path
) -> None:
    """Catches a missing label that counts as the model's error: lm-eval takes it for one."""
    rows = [
        {"q": "the cat", "c": ["a", "b"], "a": 0},
        {"q": "the dog", "c": ["a", "b"], "a": None},
        {"q": "the mat", "c": ["a", "b"], "a": 7},
        {"q": "ran", "c": ["a", ""], "a": 1},
        {"q": "sat", "c": ["mat", "dog"], "a": 1},
        {"q": "on", "c": ["a" * 500, "b"], "a": 1},
    ]
    tasks = _task(tmp_path / "tasks", "broken", CHOICES + 'target_delimiter: ""\n', rows)
    place = tmp_path / "records"
    found = measured("broken", model, respondent, place, None, tasks)
    assert found.items == 6 and found.figures["acc"].items == 2
    assert found.failed == {"no answer": 2, "empty answer": 1, "too long": 1}
    lines = map(json.loads, (place / "broken.jsonl").read_text().splitlines())
    told = {record["number"]: record["failed"] for record in lines if "failed" in record}
    assert told[2] == "no answer: 7 is none of its 2 choices"


def test_options_that_would_change_a_text_are_not_ignored() -> None:
    """Catches beams asked for and not used: the score would be another method's."""
    greedy = WritingOptions.of({"until": ["."], "num_beams": 1, "max_tokens": 5}, "<end>")
    assert (greedy.until, greedy.most, greedy.temperature) == ((".", "<end>"), 5, 0.0)
    drawn = WritingOptions.of({"do_sample": True, "temperature": 0.7, "top_p": 0.9}, "<end>")
    assert (drawn.temperature, drawn.top_k, drawn.top_p, drawn.most) == (0.7, 50, 0.9, 256)
    with pytest.raises(Unaskable, match="num_beams=4"):
        WritingOptions.of({"until": ["."], "num_beams": 4}, "<end>")
    for options in ({"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}):
        with pytest.raises(Unaskable, match=f"bad generation option: {next(iter(options))} is"):
            WritingOptions.of({"until": ["."], "do_sample": True, **options}, "<end>")
    with pytest.raises(Unaskable, match="bad generation option: until has 3, which is no text"):
        WritingOptions.of({"until": [3]}, "<end>")
    none = WritingOptions.of({"until": ["."], "max_gen_toks": 0}, "<end>")
    with pytest.raises(Unaskable, match="no text is asked for: of 0 new tokens"):
        text_request([1], none, 9, 0)
    # "" stands in every text: as HFLM's, it ends with its first token.
    (query,) = text_request([1], WritingOptions.of({"until": [""]}, "<end>"), 300, 0).queries
    assert isinstance(query, ContinuationQuery)
    assert (query.tokens, query.stop) == (1, ("<end>",))
    assert len({seed_of(3, copy) for copy in range(4)}) == 4, "repetitions draw for themselves"


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    """Catches a long list, or lm-eval's KeyError, in place of the name that was meant."""
    tasks = _task(tmp_path / "tasks", "our_facts", CHOICES, [])
    (tasks / "torn.yaml").write_text("task: [\n")
    check_tasks(["our_facts"], tasks)
    with pytest.raises(RecipeError, match=r"did you mean our_facts\?.*torn\.yaml"):
        names.TaskShelf(tasks, every=False).require("our_fact")
    with pytest.raises(RecipeError, match=r"did you mean perplexity\?"):
        names.TaskShelf(tasks, every=False).require("perplexty", ("perplexity", "bias"))
    with pytest.raises(RecipeError, match="no such folder"):
        check_tasks(["our_facts"], tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match="holds no task"):
        check_tasks(["our_facts"], tmp_path / "empty")


def test_without_lm_eval_the_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an ImportError where only an extra is missing."""
    monkeypatch.setattr(names, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"'hellaswag'.*pip install 'lyceum\[evaluate\]'"):
        check_tasks(["hellaswag"], None, ("bias",))


def test_data_that_cannot_be_had_is_named(
    model: tuple[Tokenizer, ModelSection],
    respondent: ByTransformers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catches a traceback of the hub's; the exit code is that of bad data."""
    import datasets

    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "far.yaml").write_text(
        f"task: far\ndataset_path: someone/questions\ntest_split: test\n{CHOICES}"
    )
    # What `datasets` does where the hub cannot be reached, without its minutes of trying.
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="far: its data set someone/questions cannot be had") as it:
        measured("far", model, respondent, tasks=tasks)
    assert it.value.exit_code == 3
    gone = _task(tmp_path / "gone", "gone", CHOICES, [])
    (gone / "gone.jsonl").unlink()
    with pytest.raises(DataError, match=r"data set gone\.jsonl cannot be read: Unable to find"):
        measured("gone", model, respondent, tasks=gone)


def test_what_is_wrong_in_a_data_file_is_told(
    model: tuple[Tokenizer, ModelSection], respondent: ByTransformers, tmp_path: Path
) -> None:
    """Catches what `datasets` raises in place of the reason: "StopIteration"."""
    empty = _task(tmp_path / "empty", "empty", CHOICES, [])
    with pytest.raises(DataError, match=r"empty\.jsonl cannot be read: it holds no row; mend"):
        measured("empty", model, respondent, tasks=empty)
    torn = _task(tmp_path / "torn", "torn", CHOICES, [{"q": "a", "c": ["a", "b"], "a": 0}])
    (torn / "torn.jsonl").write_text('{"q": "a", "c"\n')
    with pytest.raises(DataError, match=r"torn\.jsonl cannot be read: JSON parse error"):
        measured("torn", model, respondent, tasks=torn)
    other = _task(tmp_path / "other", "other", CHOICES, ROWS)
    (other / "other.yaml").write_text(
        (other / "other.yaml").read_text().replace(": train", ": dev")
    )
    with pytest.raises(DataError, match="other: the task cannot be loaded: there is no 'dev', whi"):
        measured("other", model, respondent, tasks=other)


def test_what_lm_eval_does_not_say_of_a_task_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches "KeyError: None", "IndexError" and "expected str, not NoneType" for a reason."""
    monkeypatch.setitem(sys.modules, "evaluate", None)  # it would ask the hub for the metric
    tasks = tmp_path / "tasks"
    _task(tasks, "named", CHOICES + "metric_list:\n  - metric: acuracy\n", ROWS)
    _task(tasks, "blank", CHOICES, [{"q": "sat", "c": ["", "dog"], "a": 1}])
    _task(tasks, "bare", CHOICES, ROWS)
    (tasks / "bare.yaml").write_text(f"task: bare\ntest_split: test\n{CHOICES}")
    _task(tasks, "left", CHOICES + "process_docs: !function own.none\n", ROWS)
    (tasks / "own.py").write_text("def none(rows):\n    return rows.filter(lambda row: False)\n")
    (tasks / "set.yaml").write_text("group: set\ntask: [lefft]\n")
    for name, line in {
        "named": "named: the task cannot be loaded: lm-eval knows no metric 'acuracy'",
        "blank": "blank: the task cannot be loaded: a choice of its first document is empty",
        "bare": "bare: the task cannot be loaded: it names no data: give dataset_path",
        "left": "left: the task cannot be loaded: none of its documents is left to ask",
        "set": "set: names the task 'lefft', which there is not; did you mean left?",
    }.items():
        with pytest.raises(DataError) as it:
            load_tasks(name, names.TaskShelf(tasks, every=False), None, 0)
        assert str(it.value) == line


def test_tasks_within_a_groups_file_find_their_data_beside_it(tmp_path: Path) -> None:
    """Catches data files that are found where a task has a file of its own, and else not."""
    tasks = _task(tmp_path / "tasks", "apart", CHOICES, ROWS)
    (tasks / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS * 2))
    keys = (tasks / "apart.yaml").read_text().replace("apart.jsonl", "more.jsonl")
    within = keys.replace("task: apart", "- task: within").replace("\n", "\n    ")
    (tasks / "own.py").write_text("def asks(row):\n    return row['q'] + '?'\n")
    within = within.replace("doc_to_text: q", "doc_to_text: !function own.asks")
    other = "- {task: apart, dataset_kwargs: {data_files: more.jsonl}}"
    (tasks / "set.yaml").write_text(f"group: set\ntask:\n  {within.strip()}\n  {other}\n")
    loaded = load_tasks("set", names.TaskShelf(tasks, every=False), None, 0)
    assert [len(task.eval_docs) for task in loaded.tasks.values()] == [6, 6]
    assert loaded.tasks["set::within"].doc_to_text(ROWS[0]) == "sat?"


def test_a_mean_of_lists_is_no_mean_of_their_first_numbers() -> None:
    """Catches a figure where lm-eval's own aggregation raises an error."""

    class Listed:
        def aggregation(self) -> dict[str, Any]:
            from lm_eval.api.registry import get_aggregation

            return {"pairs": get_aggregation("mean")}

        def higher_is_better(self) -> dict[str, bool]:
            return {}

    record = {"task": "lists", "id": "0", "scores": {"pairs,none": [1.0, 2.0]}}
    kinds = kinds_of("lists", LoadedTasks({"lists": Listed()}, {}), [record])
    figure = figure_of("pairs", kinds["pairs"], [record])
    assert figure is not None and math.isnan(figure.value)


def test_examples_that_are_too_few_or_show_the_answer_are_told(
    model: tuple[Tokenizer, ModelSection],
    respondent: ByTransformers,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Catches every item lost for one reason, and answers shown in silence: lm-eval only warns."""
    apart = _task(tmp_path / "apart", "apart", CHOICES + "fewshot_split: train\n", ROWS)
    with caplog.at_level(logging.WARNING):
        assert measured("apart", model, respondent, tasks=apart, shots=2).items == 3
    assert not caplog.messages
    with pytest.raises(DataError, match="apart: 3 examples before each question, and it has 2"):
        measured("apart", model, respondent, tasks=apart, shots=3)
    shown = _task(tmp_path / "shown", "shown", CHOICES, ROWS)
    with caplog.at_level(logging.WARNING):
        assert measured("shown", model, respondent, tasks=shown, shots=2).items == 3
    assert [one for one in caplog.messages if "names no fewshot_split" in one]
    caplog.clear()
    # Of a validation split lm-eval does not leave the question out.
    own = _task(tmp_path / "own", "own", CHOICES + "fewshot_split: train\n", ROWS)
    (own / "own.yaml").write_text((own / "own.yaml").read_text().replace("test_s", "validation_s"))
    with caplog.at_level(logging.WARNING):
        measured("own", model, respondent, tasks=own, shots=2)
    assert [one for one in caplog.messages if "own: its fewshot_split is that of its" in one]
    loaded = load_tasks("own", names.TaskShelf(own, every=False), 2, 0).tasks["own"]
    contexts = [loaded.fewshot_context(row, 2) for row in loaded.eval_docs for _ in range(3)]
    assert any(text.count(text.split()[-1]) > 1 for text in contexts)


def test_a_task_with_functions_is_gone_on_with(
    model: tuple[Tokenizer, ModelSection], respondent: ByTransformers, tmp_path: Path
) -> None:
    """Catches items named by where in memory a function lies: each start would ask them all."""
    code = "def asks(row):\n    return row['q'] + ' the'\n"
    for name, text in (("once", code), ("later", code), ("changed", code.replace("the", "a"))):
        keys = CHOICES.replace("doc_to_text: q", "doc_to_text: !function own.asks")
        (_task(tmp_path / name, "coded", keys, ROWS) / "own.py").write_text(text)
    place = tmp_path / "records"
    before = respondent.asked
    for folder, asked in (("once", 6), ("later", 6), ("changed", 12)):
        measured("coded", model, respondent, place, tasks=tmp_path / folder)
        assert respondent.asked == before + asked, folder


def test_a_figure_without_a_value_says_why(
    model: tuple[Tokenizer, ModelSection],
    respondent: ByTransformers,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Catches a dash in the table that nobody explains; lm-eval's own run ends there."""
    rows = [{"q": "sat", "c": ["a", "b", "c"], "a": n} for n in range(3)]
    keys = CHOICES + "metric_list:\n  - metric: f1\n  - metric: acc\n"
    tasks = _task(tmp_path / "tasks", "three", keys, rows)
    with caplog.at_level(logging.WARNING):
        found = measured("three", model, respondent, tasks=tasks)
    assert found.figures["acc"].items == 3
    (line,) = caplog.messages
    assert line.startswith("three: f1 is not defined over its 3 items: ValueError: Target is multi")


def test_a_groups_interval_is_of_its_own_mean_of_tasks(tmp_path: Path) -> None:
    """Catches items drawn from all tasks alike, whose shares of a resample then differ from the
    weights: twice as wide here. Held against lm-eval's own standard errors.
    """
    from lm_eval.api.metrics import mean_stderr

    tasks = tmp_path / "tasks"
    sizes = {"few": 40, "many": 160, "sure": 30}
    for name in sizes:
        _task(tasks, name, CHOICES, ROWS)
    lists = "aggregate_metric_list:\n  - {metric: acc, weight_by_size: %s}\n"
    (tasks / "in.yaml").write_text("group: inner\ntask: [few, many]\n" + lists % "true")
    (tasks / "out.yaml").write_text("group: outer\ntask: [inner, sure]\n" + lists % "false")
    (tasks / "twice.yaml").write_text("group: twice\ntask: [outer, few]\n" + lists % "true")
    loaded = load_tasks("twice", names.TaskShelf(tasks, every=False), None, 0)
    records, theirs = [], {}
    for name, size in sizes.items():
        scores = [float(n % 20 < {"few": 1, "many": 19, "sure": 20}[name]) for n in range(size)]
        theirs[name] = {"acc,none": sum(scores) / size, "acc_stderr,none": mean_stderr(scores)}
        theirs[name]["sample_len"] = size
        for number, score in enumerate(scores):
            records.append({"task": name, "id": f"{name}/{number}", "scores": {"acc,none": score}})
    kinds = kinds_of("twice", loaded, records)
    for name, shown in (("inner", "inner/acc"), ("outer", "outer/acc"), ("twice", "acc")):
        expected = loaded.groups[name].aggregate(theirs)
        figure = figure_of(shown, kinds[shown], records)
        assert figure is not None and figure.value == pytest.approx(expected["acc,none"]), name
        width = (figure.high - figure.low) / 2 / 1.96  # of 1,000 resamples
        if name != "twice":  # lm-eval takes a task that stands there twice for two tasks
            assert width == pytest.approx(expected["acc_stderr,none"], rel=0.15), name


def test_a_function_that_is_not_there_costs_its_own_task_alone(
    model: tuple[Tokenizer, ModelSection], respondent: ByTransformers, tmp_path: Path
) -> None:
    """Catches an ImportError's trace, and a folder that is lost to one of its files."""
    tasks = _task(tmp_path / "tasks", "whole", CHOICES, ROWS)
    _task(tasks, "lame", CHOICES + "process_docs: !function nowhere.docs\n", ROWS)
    assert measured("whole", model, respondent, tasks=tasks).items == 3
    with pytest.raises(DataError, match=r"lame: the task cannot be loaded: .*nowhere"):
        measured("lame", model, respondent, tasks=tasks)


def test_a_task_by_the_name_of_a_built_in_suite_is_refused(tmp_path: Path) -> None:
    """Catches the built-in suite's figures taken for the task's."""
    tasks = _task(tmp_path / "tasks", "bias", CHOICES, ROWS)
    with pytest.raises(RecipeError, match=r"bias: a built-in suite .* of a task in --tasks-path"):
        check_tasks(["bias"], tasks, ("bias", "calibration"))
    check_tasks(["calibration"], tasks, ("bias", "calibration"))


def test_a_hub_without_an_address_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches half a minute of retries without a network; a proxy may know what we do not."""
    import datasets
    from huggingface_hub import constants

    looked: list[str] = []

    def unknown(host: str, port: None) -> None:
        looked.append(host)
        raise OSError("no such name")

    monkeypatch.setattr(network.socket, "getaddrinfo", unknown)
    monkeypatch.setattr(network.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(network, "getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    assert network.hub_out_of_reach() == looked[0] and len(looked) == 2
    (tmp_path / "far.yaml").write_text(
        f"task: far\ndataset_path: someone/questions\ntest_split: test\n{CHOICES}"
    )
    monkeypatch.setattr(names.TaskShelf, "is_own", lambda shelf, name: False)
    with pytest.raises(DataError, match=r"far: its data set someone/questions .* \(no network\)"):
        load_tasks("far", names.TaskShelf(tmp_path, every=False), None, 0)
    assert not constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE
    monkeypatch.setattr(network, "getproxies", lambda: {"https": "http://proxy"})
    assert network.hub_out_of_reach() is None
