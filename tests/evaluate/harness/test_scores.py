"""lm-eval's tasks give our models the scores that its own Hugging Face model gives them."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.harness.by_transformers import ByTransformers
from tests.evaluate.harness.cases import (
    GROUP,
    NAMES,
    POSITIONS,
    SINGLE,
    TASKS,
    at_layouts,
    by_lm_eval,
    figures_of,
    hugging_face_model,
    measured,
)
from tests.parity.ranks import on_ranks
from trainer.data.tokenizer import Tokenizer
from trainer.evaluate.harness.documents import as_json
from trainer.evaluate.suite_result import SuiteResult
from trainer.hugging_face.importing import import_command
from trainer.recipe.model import ModelSection

lm_eval = pytest.importorskip("lm_eval", reason="the extra `evaluate` is not installed")

LAYOUTS: list[dict[str, Any]] = [{"tensor": 2}, {"pipeline": 2}, {"tensor": 2, "pipeline": 2}]
CLOSE = 2e-6
"""HFLM adds log-probabilities up in fp32; perplexities are exponentials of these sums."""


@pytest.fixture(scope="module")
def hugging_face(folder: Path) -> Any:
    return hugging_face_model(folder)


@pytest.fixture(scope="module")
def theirs(hugging_face: Any, data_sets: None) -> dict[str, Any]:
    return by_lm_eval(hugging_face, NAMES)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def found(
    model: tuple[Tokenizer, ModelSection],
    respondent: ByTransformers,
    records: Path,
    data_sets: None,
) -> dict[str, SuiteResult]:
    return {name: measured(name, model, respondent, records) for name in NAMES}


def test_every_score_is_that_of_the_hugging_face_model(
    theirs: dict[str, Any], found: dict[str, SuiteResult]
) -> None:
    """Catches another tokenisation, window, cut, stop, filter, example or aggregation."""
    for name in NAMES:
        expected = figures_of(theirs, name)
        assert {key: one.value for key, one in found[name].figures.items()} == pytest.approx(
            expected, rel=CLOSE
        ), name
        assert found[name].failed == {}
    # Scores that all models have would prove nothing.
    assert 0 < found[GROUP].figures["acc"].value < 1
    assert found["ours_letters"].figures["letters,both"].value > 1
    assert (
        found["ours_texts"].figures["bits_per_byte"].low
        < found["ours_texts"].figures["bits_per_byte"].value
    )


def test_every_answer_is_that_of_the_hugging_face_model(
    theirs: dict[str, Any], found: dict[str, SuiteResult], records: Path
) -> None:
    """Catches texts and likelihoods that differ where the scores do not show it."""
    for name in SINGLE:
        lines = (records / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        ours = {record["number"]: record for record in map(json.loads, lines)}
        for sample in theirs["samples"][name]:
            given, answer = sample["resps"], ours[sample["doc_id"]]["answer"]
            if isinstance(given[0][0], str):
                assert answer == (given[0][0] if len(given[0]) == 1 else given[0])
            elif isinstance(given[0][0], tuple):
                nats = [one[0][0] for one in given]
                assert answer.get("of", [answer["nats"]]) == pytest.approx(nats, rel=CLOSE)
            else:
                assert answer["nats"] == pytest.approx(given[0][0], rel=CLOSE)


def test_scores_do_not_depend_on_the_layout(
    folder: Path, theirs: dict[str, Any], tmp_path: Path
) -> None:
    """Catches likelihoods or texts that differ at a layout, and queries that ranks lose."""
    on_ranks(1, import_command, folder, tmp_path / "run")
    for rank, at in enumerate(on_ranks(4, at_layouts, tmp_path / "run", LAYOUTS, NAMES)):
        for layout, figures in zip(LAYOUTS, at, strict=True):
            for name in NAMES:
                # Log-probabilities of products in another order, and HFLM's sums in fp32.
                expected = pytest.approx(figures_of(theirs, name), rel=5e-5, abs=1e-6)
                assert figures[name] == expected, f"{name} on rank {rank} at {layout}"


def test_our_model_is_one_of_lm_evals(
    folder: Path, respondent: ByTransformers, theirs: dict[str, Any]
) -> None:
    """Catches an adapter that serves our own command and not `lm_eval.simple_evaluate`."""
    ours = by_lm_eval(_harness_model(folder, respondent), NAMES)
    for name in NAMES:
        assert figures_of(ours, name) == pytest.approx(figures_of(theirs, name), rel=CLOSE), name


def test_the_chat_template_is_applied_as_by_the_hugging_face_model(
    folder: Path,
    model: tuple[Tokenizer, ModelSection],
    respondent: ByTransformers,
    hugging_face: Any,
) -> None:
    """Catches a template that is not applied, and one behind a second start of the text."""
    options = {
        **{"apply_chat_template": True, "fewshot_as_multiturn": True, "num_fewshot": 1},
        "system_instruction": "Be brief.",
    }
    wanted = ["ours_delimited", "ours_short"]
    expected = by_lm_eval(hugging_face, wanted, **options)
    ours = by_lm_eval(_harness_model(folder, respondent), wanted, **options)
    for name in wanted:
        scores = figures_of(expected, name)
        assert figures_of(ours, name) == pytest.approx(scores, rel=CLOSE)
        found = measured(name, model, respondent, chat=True, system="Be brief.", shots=1)
        figures = {key: one.value for key, one in found.figures.items()}
        assert figures == pytest.approx(scores, rel=CLOSE)
    sample = expected["samples"]["ours_short"][0]["arguments"][0][0]
    assert "Be brief." in sample and sample.endswith("<|im_start|>assistant: ")


def _harness_model(folder: Path, respondent: ByTransformers) -> Any:
    from transformers import AutoTokenizer

    from trainer.evaluate.harness.model import HarnessModel

    return HarnessModel(respondent, AutoTokenizer.from_pretrained(folder))


@pytest.fixture
def begun(found: dict[str, SuiteResult], records: Path, tmp_path: Path) -> Path:
    """A folder of its own with the records of `ours_short`, as a start before left them."""
    for file in records.glob("ours_short.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_a_second_start_answers_only_what_is_left(
    model: tuple[Tokenizer, ModelSection],
    respondent: ByTransformers,
    found: dict[str, SuiteResult],
    begun: Path,
) -> None:
    """Catches items whose names change with a start, and figures over what was asked last."""
    lines = (begun / "ours_short.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (begun / "ours_short.jsonl").write_text("".join(lines[:-2]), encoding="utf-8")
    before = respondent.asked
    result = measured("ours_short", model, respondent, begun)
    assert respondent.asked == before + 2 and result.before == len(lines) - 2
    assert result.figures == found["ours_short"].figures
    # Other examples before the question are other items.
    measured("ours_short", model, respondent, begun, shots=1)
    assert respondent.asked == before + 2 + len(lines)


def test_texts_that_ended_otherwise_are_not_gone_on_with(
    model: tuple[Tokenizer, ModelSection],
    respondent: ByTransformers,
    found: dict[str, SuiteResult],
    begun: Path,
) -> None:
    """Catches texts that a template's end of a turn had cut among those that go on behind it."""
    described = begun / "ours_short.settings.json"
    settings = json.loads(described.read_text())
    described.write_text(json.dumps({**settings, "rules": 1}))
    assert found["ours_short"].items > 0
    assert measured("ours_short", model, respondent, begun).before == 0


def test_a_context_is_cut_where_the_hugging_face_model_cuts_it(
    model: tuple[Tokenizer, ModelSection], respondent: ByTransformers, tmp_path: Path
) -> None:
    """Catches contexts of a model with stretched rope that are longer here than in lm-eval's own,
    which reads max_position_embeddings and no more.
    """
    rope = {"type": "dynamic", "factor": 4.0, "original_context": 24}
    keys = model[1].model_dump(mode="json") | {"rope_scaling": rope}
    measured("ours_last_word", (model[0], ModelSection.model_validate(keys)), respondent, tmp_path)
    lines = (tmp_path / "ours_last_word.jsonl").read_text(encoding="utf-8").splitlines()
    cuts = [json.loads(line)["cut"] for line in lines]
    measured("ours_last_word", model, respondent, tmp_path / "trained", trained=24)
    lines = (tmp_path / "trained" / "ours_last_word.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["cut"] for line in lines] == cuts
    measured("ours_last_word", model, respondent, tmp_path / "whole")
    whole = (tmp_path / "whole" / "ours_last_word.jsonl").read_text(encoding="utf-8").splitlines()
    less = [json.loads(line)["cut"] + POSITIONS - 24 for line in whole]
    assert sorted(cuts) == sorted(less) and min(cuts) > 0


def test_settings_of_a_model_that_are_not_applied_are_said(
    model: tuple[Tokenizer, ModelSection],
    respondent: ByTransformers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Catches texts that differ from those of lm-eval's model without a word."""
    own = {"eos_token_id": 0, "repetition_penalty": 1.3, "no_repeat_ngram_size": 0}
    files = {**model[0].files, "generation_config.json": json.dumps(own).encode()}
    with caplog.at_level(logging.WARNING):
        for name in ("ours_short", "ours_delimited"):  # of which the second writes nothing
            measured(name, (Tokenizer(files, "here"), model[1]), respondent)
    (line,) = [one for one in caplog.messages if "not applied" in one]
    assert line.startswith("ours_short: repetition_penalty 1.3 of the model's generation_config")


def test_what_is_cut_is_said_once_with_its_count(
    model: tuple[Tokenizer, ModelSection],
    respondent: ByTransformers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Catches a context that loses its beginning in silence."""
    with caplog.at_level(logging.WARNING):
        measured("ours_last_word", model, respondent)
    (line,) = [one for one in caplog.messages if "longer than" in one]
    assert line.startswith("ours_last_word: 3 of 3 items are longer than the 96 tokens that lm")


def test_the_tasks_of_the_tests_cover_every_output_type() -> None:
    """Catches a comparison that lost a kind of request with a file."""
    text = "".join(file.read_text() for file in TASKS.glob("*.yaml"))
    from lm_eval.api.task import ALL_OUTPUT_TYPES

    assert all(f"output_type: {kind}\n" in text for kind in ALL_OUTPUT_TYPES)


def test_a_set_is_recorded_in_one_order() -> None:
    """Catches records that differ with the hashes of each process."""
    assert as_json(frozenset("hgfedcba")) == list("abcdefgh")
