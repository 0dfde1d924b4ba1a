"""The runner of suites: records, resumption by item, failing items, intervals."""

import json
import math
import resource
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.evaluate.planted import Planted, examined
from trainer.errors import RecipeError, SuiteUnavailable, TrainingError
from trainer.evaluate.intervals import figure_of, interval
from trainer.evaluate.respondent import (
    NOT_FINITE,
    LikelihoodQuery,
    Prompt,
    Query,
    Response,
    TextQuery,
    Unanswered,
    WrittenAnswer,
)
from trainer.evaluate.suites.suite import (
    FigureKind,
    Item,
    ItemRecord,
    Suite,
    SuiteContext,
    mean,
    ratio,
)

ANSWERS = {f"{n} + {n}?": str(2 * n) for n in range(20)}


def sums(context: SuiteContext) -> list[Item]:
    return [
        Item(question, (TextQuery(Prompt(question)),), {"question": question, "right": right})
        for question, right in list(ANSWERS.items())[: context.limit]
    ]


def judged(item: Item, answers: Sequence[Response]) -> ItemRecord:
    (answer,) = answers
    assert isinstance(answer, WrittenAnswer)
    if answer.text == "unjudgeable":
        raise ValueError("what is this?")
    return {"answer": answer.text, "score": float(answer.text == item.shown["right"])}


SUMS = Suite(
    "sums",
    measures="Sums.",
    leaves_out="Products.",
    source="Arithmetic.",
    rules=1,
    items=sums,
    judge=judged,
    figures=lambda context: {
        "accuracy": FigureKind("right answers", lambda record: [record["score"]], better="higher")
    },
)


def knows(query: TextQuery) -> str:
    return ANSWERS[query.prompt.text]


class StopsAfter(Planted):
    """Answers so many queries, and is then killed."""

    left = 7

    def responses(self, queries: Sequence[Query]) -> Iterator[tuple[int, Response]]:
        for answered in super().responses(queries):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield answered


class CannotRead(Planted):
    """Has no answer to the questions with a 3 in them."""

    def answer(self, query: Query) -> Response:
        if isinstance(query, TextQuery) and "3" in query.prompt.text:
            return Unanswered("too long: 9 tokens of 8")
        return super().answer(query)


class IsUnsound(Planted):
    """Gives some answers, those with a 3 in the question, without a number for how likely."""

    def answer(self, query: Query) -> Response:
        found = super().answer(query)
        if isinstance(query, TextQuery) and "3" in query.prompt.text:
            assert isinstance(found, WrittenAnswer)
            return replace(found, nats=(math.nan,))
        return found


def test_an_answer_without_a_finite_confidence_fails_its_item() -> None:
    """Would catch NaN among confidences, of which areas and ranks are numbers all the same."""
    result = examined(SUMS, IsUnsound(knows))
    assert result.failed == {NOT_FINITE: 2}
    assert result.figures["accuracy"].items == 18


def lines(file: Path) -> list[ItemRecord]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_stopped_examination_goes_on_by_item(tmp_path: Path) -> None:
    """Would catch items that are asked twice or lost, and a torn last line that stops all."""
    stopped = StopsAfter(knows)
    with pytest.raises(KeyboardInterrupt):
        examined(SUMS, stopped, records=tmp_path)
    file = tmp_path / "sums.jsonl"
    assert len(lines(file)) == 7
    with file.open("a") as torn:
        torn.write('{"id": "half a')
    second = Planted(knows)
    result = examined(SUMS, second, records=tmp_path)
    assert result.before == 7 and len(second.asked) == 13
    assert result.figures["accuracy"].value == 1.0
    assert [line["id"] for line in lines(file)] == list(ANSWERS)
    third = Planted(knows)
    assert examined(SUMS, third, records=tmp_path).before == 20 and third.asked == []


CHANGES: dict[str, ItemRecord | list[str]] = {
    "a key is gone": {"id": "3 + 3?"},
    "a question is another": {"question": "3 + 4?"},
    "a number is a text": {"score": "x"},
    "a number is gone": {"score": None},
    "an id is a list": {"id": ["3 + 3?"]},
    "a line is no record": ["3 + 3?"],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_record_that_was_changed_is_asked_anew(
    change: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Would catch a stack trace, or a figure over what somebody wrote into the file."""
    examined(SUMS, Planted(knows), records=tmp_path)
    file, changed = tmp_path / "sums.jsonl", CHANGES[change]
    kept: list[ItemRecord | list[str]] = [*lines(file)]
    alone = change == "a key is gone" or isinstance(changed, list)
    kept[3] = changed if alone else {**lines(file)[3], **dict(changed)}
    text = "".join(json.dumps(one) + "\n" for one in kept)
    file.write_text(text)
    again = Planted(knows)
    result = examined(SUMS, again, records=tmp_path)
    assert result.before == 19 and len(again.asked) == 1
    assert result.figures["accuracy"].value == 1.0
    assert sorted(line["id"] for line in lines(file)) == sorted(ANSWERS)
    (line,) = caplog.messages
    assert "1 of its 20 lines are not what was written there: these items" in line
    assert line.endswith("sums.jsonl.replaced")
    assert (tmp_path / "sums.jsonl.replaced").read_text() == text


def test_answers_to_what_is_not_asked_now_are_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Would catch a task whose data changed under the same settings, at which all is deleted."""

    def grown(context: SuiteContext) -> list[Item]:
        return [replace(item, id=f"{item.id} once more") for item in sums(context)]

    def some(context: SuiteContext) -> list[Item]:
        return [*grown(context)[:5], *sums(context)[5:]]

    examined(SUMS, Planted(knows), records=tmp_path)
    written = (tmp_path / "sums.jsonl").read_bytes()
    settings = (tmp_path / "sums.settings.json").read_bytes()
    result = examined(replace(SUMS, items=some), Planted(knows), records=tmp_path)
    assert (result.before, result.items) == (15, 20)
    (line,) = caplog.messages
    assert "5 of its 20 lines answer what is not asked now" in line and "written there" not in line
    assert line.endswith("sums.jsonl.replaced")
    assert (tmp_path / "sums.jsonl.replaced").read_bytes() == written
    assert (tmp_path / "sums.settings.json.replaced").read_bytes() == settings
    assert examined(replace(SUMS, items=grown), Planted(knows), records=tmp_path).before == 5
    assert len(lines(tmp_path / "sums.jsonl.replaced-2")) == 20
    assert "15 of its 20 lines answer what is not asked now" in caplog.messages[1]


def test_every_suite_has_records_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Would catch two tasks in one folder, of which each sets the other's records aside."""
    names = ("a/b", "a-b", "a%2Fb", "sums")
    for before in (0, 20):
        for name in names:
            found = examined(replace(SUMS, name=name), Planted(knows), records=tmp_path)
            assert found.before == before
    assert len(list(tmp_path.iterdir())) == 2 * len(names) and caplog.messages == []


def test_records_of_other_settings_are_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Would catch another seed's records that are taken for this one's, or moved in silence."""
    examined(SUMS, Planted(knows), records=tmp_path, limit=5)
    result = examined(SUMS, Planted(knows), records=tmp_path, limit=6)
    assert (result.before, result.items) == (0, 6)
    assert len(lines(tmp_path / "sums.jsonl.replaced")) == 5
    (line,) = caplog.messages
    assert "sums.jsonl: its records are of another limit, and" in line and ".replaced" in line
    (tmp_path / "sums.settings.json").write_bytes(b"\xff{")
    assert examined(SUMS, Planted(knows), records=tmp_path, limit=6).before == 0
    assert "its records are of nobody knows what" in caplog.messages[1]


def test_records_that_were_set_aside_are_never_written_over(tmp_path: Path) -> None:
    """Would catch a second change of settings that deletes what the first had set aside."""
    for limit in (5, 6, 7, 8):
        examined(SUMS, Planted(knows), records=tmp_path, limit=limit)
    for ending, limit in (("", 8), (".replaced", 5), (".replaced-2", 6), (".replaced-3", 7)):
        assert len(lines(tmp_path / f"sums.jsonl{ending}")) == limit
        settings = json.loads((tmp_path / f"sums.settings.json{ending}").read_text())
        assert settings["limit"] == limit


def test_a_failing_item_is_reported_and_loses_no_other(tmp_path: Path) -> None:
    """Would catch one bad item that ends a suite, or that counts as a wrong answer."""
    result = examined(SUMS, CannotRead(knows), records=tmp_path)
    assert result.failed == {"too long": 2} and result.items == 20
    assert (result.figures["accuracy"].value, result.figures["accuracy"].items) == (1.0, 18)
    failed = [line for line in lines(tmp_path / "sums.jsonl") if "failed" in line]
    assert [line["failed"] for line in failed] == ["too long: 9 tokens of 8"] * 2
    # What failed is tried once more, and nothing else.
    mended = Planted(knows)
    assert examined(SUMS, mended, records=tmp_path).failed == {} and len(mended.asked) == 2


def test_a_judgement_that_fails_loses_no_other_item() -> None:
    """Would catch an exception in one item's judgement that ends an hour's evaluation."""

    def writes(query: TextQuery) -> str:
        return "unjudgeable" if query.prompt.text == "4 + 4?" else knows(query)

    result = examined(SUMS, Planted(writes))
    assert result.failed == {"judging failed": 1} and result.figures["accuracy"].items == 19


def test_a_record_shows_question_answer_and_score(tmp_path: Path) -> None:
    """Would catch records from which nobody can see what was asked."""
    examined(SUMS, Planted(knows), records=tmp_path, limit=2)
    expected = {"id": "1 + 1?", "question": "1 + 1?", "right": "2", "answer": "2", "score": 1.0}
    assert lines(tmp_path / "sums.jsonl")[1] == expected


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match=r"file/x/sums.jsonl: cannot be written: .*--records"):
        examined(SUMS, Planted(knows), records=tmp_path / "file" / "x")


def test_an_unavailable_suite_says_what_it_needs() -> None:
    def nothing(context: SuiteContext) -> list[Item]:
        raise SuiteUnavailable("sums: needs numbers")

    broken = Suite("sums", "", "", "", 1, nothing, judged, SUMS.figures)
    with pytest.raises(SuiteUnavailable, match="needs numbers"):
        examined(broken, Planted())


def test_likelihood_and_tokens_queries_are_counted_like_texts() -> None:
    """Would catch a suite whose items have several queries and are judged before the last."""
    pairs = [
        Item(str(n), (LikelihoodQuery(Prompt("a"), "b" * n), TextQuery(Prompt(str(n)))), {})
        for n in range(1, 5)
    ]

    def both(item: Item, answers: Sequence[Response]) -> ItemRecord:
        return {"kinds": [type(answer).__name__ for answer in answers]}

    suite = Suite(
        "pairs",
        "",
        "",
        "",
        1,
        lambda context: pairs,
        both,
        lambda context: {
            "ordered": FigureKind(
                "", lambda record: [record["kinds"] == ["Likelihood", "WrittenAnswer"]]
            )
        },
    )
    assert examined(suite, Planted()).figures["ordered"].value == 1.0


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Would catch intervals that are too narrow or too wide: 95% of 400 draws of a known mean."""
    draws = np.random.default_rng(5)
    held = 0
    for trial in range(400):
        rows = (draws.random((100, 1)) < 0.3).astype(np.float64)
        low, high = interval(rows, mean, [trial])
        held += low <= 0.3 <= high
    # 400 trials at 95%: a standard error of 1.1%; the percentile method is a little narrow.
    assert 0.91 <= held / 400 <= 0.98


def test_items_of_a_cluster_are_no_draws_of_their_own() -> None:
    """Would catch intervals that narrow where one template is asked with four names."""
    draws = np.random.default_rng(6)
    held, alone = 0, 0
    clusters = [index // 4 for index in range(160)]
    for trial in range(100):
        rows = np.repeat((draws.random((40, 1)) < 0.3).astype(np.float64), 4, axis=0)
        low, high = interval(rows, mean, [trial], clusters)
        held += low <= 0.3 <= high
        low, high = interval(rows, mean, [trial])
        alone += low <= 0.3 <= high
    assert held / 100 >= 0.87  # 100 trials of 94%, as 40 draws have it: a standard error of 2.4%
    assert alone / 100 < 0.8  # negative control: about 67%
    kind = FigureKind("", lambda record: [record["score"]], cluster=lambda record: record["act"])
    same = [{"score": float(n % 2), "act": "one"} for n in range(20)]
    figure = figure_of("x", kind, same)
    assert figure is not None and (figure.low, figure.high) == (0.5, 0.5) and figure.items == 20


@pytest.mark.parametrize("clusters", [None, [index // 2 for index in range(100)]])
def test_every_resample_has_as_many_of_each_stratum(clusters: list[int] | None) -> None:
    """Would catch the difference between tasks counted as chance, by both ways to resample."""
    strata = [index < 60 for index in range(100)]
    rows = np.array([[float(one)] for one in strata])
    for reduce in (mean, lambda chosen: mean(chosen)):
        assert interval(rows, reduce, [0], clusters, strata) == (0.6, 0.6)
        low, high = interval(rows, reduce, [0], clusters)
        assert high - low > 0.1  # negative control


@pytest.mark.parametrize("clusters", [None, [n * n // 120 for n in range(60)]])
def test_sums_by_counts_are_the_resamples_that_indices_give(clusters: list[int] | None) -> None:
    """Would catch the short cut for means and ratios leaving the bootstrap's distribution."""
    rows = np.random.default_rng(1).random((60, 2)) + 0.5
    for reduce in (mean, ratio):
        quick = interval(rows, reduce, [3], clusters)
        slow = interval(rows, lambda chosen, reduce=reduce: reduce(chosen), [3], clusters)
        # Two independent sets of 1,000 resamples: their percentiles differ by a few percent of the
        # interval's width.
        width = slow[1] - slow[0]
        assert np.allclose(quick, slow, atol=0.12 * width)


def test_a_figure_over_nothing_is_left_out_and_an_undefined_one_is_not_a_number() -> None:
    kind = FigureKind("", lambda record: record["row"])
    assert figure_of("x", kind, [{"row": None}]) is None
    undefined = FigureKind("", lambda record: record["row"], lambda rows: math.nan)
    figure = figure_of("x", undefined, [{"row": [1.0]}])
    assert figure is not None and math.isnan(figure.value) and figure.as_json()["value"] is None


def test_a_full_disk_is_one_line_when_the_records_are_closed(tmp_path: Path) -> None:
    """Would catch a file whose closing tries the refused bytes again, and ends in a trace."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(TrainingError, match="free some room"):
            examined(SUMS, Planted(knows), records=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
