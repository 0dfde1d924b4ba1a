"""Evaluation sets kept out: which documents share a passage, and what becomes of bad files."""

import io
import json
import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.corpus.rules.decontaminate import Decontaminate, _index_of
from trainer.corpus.rules.word_runs import opened, rolled, words_of
from trainer.errors import DataError, RecipeError
from trainer.recipe.curation import DecontaminateRule, EvaluationSet

QUESTION = (
    "Which of the seven hills of Rome did the emperor Augustus choose for his own house, and why"
    " did he prefer it to all the others?"
)
SHORT = "Who painted the ceiling of the Sistine Chapel?"  # eight words
TINY = "What is two plus two?"


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Each test writes its own files, under names that another may have read."""
    _index_of.cache_clear()
    yield


def rule(path: Path, keys: tuple[str, ...] = (), **section: Any) -> Decontaminate:
    sets = [EvaluationSet(name="quiz", file=str(path), keys=keys)]
    return Decontaminate(DecontaminateRule(sets=sets, **section))


def text_file(folder: Path, *lines: str) -> Path:
    path = folder / "set.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def found(judge: Decontaminate, text: str) -> list[Any]:
    outcome = judge(text, "document")
    assert (outcome.text is None) == bool(outcome.findings)
    assert outcome.text in (None, text)
    return [finding.value for finding in outcome.findings]


def test_a_planted_example_is_found_whatever_its_form(tmp_path: Path) -> None:
    """Would catch a comparison that case, punctuation, white space or Unicode's form defeats."""
    judge = rule(text_file(tmp_path, QUESTION + " Café Müller."))
    plain = " ".join(words_of(QUESTION + " Café Müller"))
    for form in (
        QUESTION + " Café Müller.",
        plain,
        plain.upper(),
        "\n\n* ".join(words_of(plain)),
        QUESTION.replace(" ", " \u2014 ") + " Cafe\u0301 Mu\u0308ller",
    ):
        assert found(judge, f"Before it. {form} After it.") == ["quiz: 16 passages"]


def test_twelve_words_in_common_are_no_passage_and_thirteen_are(tmp_path: Path) -> None:
    """The negative control at its edge: would catch a window of the wrong length."""
    judge = rule(text_file(tmp_path, QUESTION))
    words = words_of(QUESTION)
    for start in range(len(words) - 12):
        assert found(judge, "x " + " ".join(words[start : start + 12]) + " y") == []
        assert found(judge, "x " + " ".join(words[start : start + 13]) + " y") == [
            "quiz: 1 passage"
        ]
    shuffled = words[:]
    random.Random(0).shuffle(shuffled)
    assert found(judge, " ".join(shuffled)) == []
    assert found(judge, " ".join(reversed(words))) == []


def test_short_examples_count_whole_and_tiny_ones_are_reported(tmp_path: Path) -> None:
    """Would catch short examples passed over in silence, or ones that match by chance."""
    judge = rule(text_file(tmp_path, QUESTION, SHORT, TINY))
    assert found(judge, f"So: {SHORT} Michelangelo.") == ["quiz: 1 passage"]
    assert found(judge, SHORT.replace("Sistine", "other")) == []
    assert found(judge, TINY) == []
    (row,) = judge.guarded()
    assert (row["set"], row["examples"], row["passages"], row["too_short"]) == ("quiz", 3, 15, 1)


def test_the_limits_are_those_of_the_recipe(tmp_path: Path) -> None:
    """Would catch a length or a number of matches that is ignored."""
    path = text_file(tmp_path, QUESTION)
    assert found(rule(path, matches=14), QUESTION) == ["quiz: 14 passages"]
    assert found(rule(path, matches=15), QUESTION) == []
    assert found(rule(path, words=3), "the seven hills") == ["quiz: 1 passage"]
    assert found(rule(path, words=3), "the seven dwarfs") == []
    assert found(rule(path, words=1), "a dwarf or Augustus") == ["quiz: 1 passage"]
    (finding,) = rule(path)(QUESTION, "x").findings
    assert finding.threshold == 1


def test_each_set_is_named_with_its_own_passages(tmp_path: Path) -> None:
    """Would catch a passage ascribed to one set only, or to the wrong one."""
    other = "An entirely different sentence of many words stands here so that it can be told apart"
    (tmp_path / "a.txt").write_text(QUESTION)
    (tmp_path / "b.txt").write_text(f"{QUESTION}\n{other}")
    sets = [EvaluationSet(name=name, file=str(tmp_path / f"{name}.txt")) for name in "ab"]
    judge = Decontaminate(DecontaminateRule(sets=sets))
    assert found(judge, QUESTION) == ["a: 14 passages", "b: 14 passages"]
    assert found(judge, other) == ["b: 4 passages"]
    assert found(Decontaminate(DecontaminateRule()), QUESTION) == []


RECORDS = [
    {"question": {"stem": QUESTION}, "choices": ["yes", SHORT], "id": 7},
    {"question": {"stem": TINY}, "choices": [], "id": 8},
]


@pytest.mark.parametrize("form", ["a.jsonl", "a.json", "wrapped.json", "a.parquet"])
def test_all_formats_give_the_same_passages(tmp_path: Path, form: str) -> None:
    """Would catch a format whose nested fields, or whose last record, are not read."""
    path = tmp_path / form
    if form == "a.jsonl":
        path.write_text("\n\n".join(map(json.dumps, RECORDS)))
    elif form == "a.json":
        path.write_text(json.dumps(RECORDS))
    elif form == "wrapped.json":
        path.write_text(json.dumps({"version": "1.0", "data": RECORDS}))
    else:
        pq.write_table(pa.Table.from_pylist(RECORDS), path)
    for keys, passages in [((), 15), (("question.stem",), 14), (("choices",), 1)]:
        judge = rule(path, keys)
        (row,) = judge.guarded()
        assert (row["examples"], row["passages"]) == (2, passages)
        assert bool(found(judge, QUESTION)) == (keys != ("choices",))
        assert bool(found(judge, SHORT)) == (keys != ("question.stem",))


def not_utf8() -> bytes:
    """A table whose second row is Latin-1."""
    strings = pa.array([b"one", b"caf\xe9"], pa.binary()).view(pa.string())
    target = io.BytesIO()
    pq.write_table(pa.table({"q": strings}), target)
    return target.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "keys", "kind", "message"),
    [
        ("none.txt", None, (), RecipeError, r"sets: quiz: cannot read .*none\.txt: No such file"),
        ("none.parquet", None, (), RecipeError, r"sets: quiz: cannot read .*: No such file"),
        ("a.csv", b"x", (), RecipeError, r"a\.csv is not one of \.jsonl"),
        ("a.jsonl", b'{"q": "x"}\n{', (), DataError, r"a\.jsonl line 2 is not JSON"),
        ("a.json", b"[1,", (), DataError, r"a\.json is not JSON"),
        ("a.parquet", b"PAR1 no", (), DataError, r"a\.parquet: not Parquet, damaged or cut short"),
        ("a.parquet", not_utf8(), (), DataError, r"a\.parquet row 2 .* is not UTF-8; convert it"),
        ("a.txt", b"\xff\xfe", (), DataError, r"a\.txt line 1 is not UTF-8"),
        ("a.txt", b"\n\n", (), DataError, r"a\.txt holds no example"),
        ("a.json", b'[{"q": "x", "a": 1}]', ("p",), RecipeError, r"the key 'p'; it has 'q', 'a'"),
        ("a.json", b'["x"]', ("p",), RecipeError, r"the key 'p'; it has no keys at all"),
    ],
)
def test_bad_files_are_one_line_with_the_mend(
    tmp_path: Path, name: str, content: bytes | None, keys: tuple[str, ...], kind: Any, message: str
) -> None:
    """Would catch a set that guards nothing in silence, or an error that does not say where."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(kind, match=message) as caught:
        rule(tmp_path / name, keys).prepare()
    assert "\n" not in str(caught.value)


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """Would catch two sets whose finds could not be told apart."""
    one = EvaluationSet(name="quiz", file=str(text_file(tmp_path, QUESTION)))
    with pytest.raises(RecipeError, match="'quiz' stands twice"):
        Decontaminate(DecontaminateRule(sets=[one, one])).prepare()


def test_rolled_hashes_are_those_of_each_run_alone() -> None:
    """Would catch hashes that depend on what stands around a run, or two ways that differ."""
    hashes = np.random.default_rng(0).integers(0, 2**64, 40, dtype=np.uint64)
    for length, runs in rolled(hashes, np.arange(40), [2, 8, 13]):
        assert len(runs) == 40 - length + 1
        for start, run in enumerate(runs):
            ((_, alone),) = rolled(hashes[start : start + length], np.arange(1), [length])
            assert alone.tolist() == [run]
        if length == 8:
            assert opened(hashes, 8).tolist() == opened(hashes, 13).tolist() == runs.tolist()
    assert len(opened(hashes[:5], 8)) == 0


def test_planted_passages_are_all_found_among_many_documents(tmp_path: Path) -> None:
    """Would catch passages missed at a document's ends, and finds by chance; prints both rates."""
    generator = random.Random(1)
    vocabulary = [f"word{number}" for number in range(500)]

    def prose(words: int) -> list[str]:
        return generator.choices(vocabulary, k=words)

    examples = [prose(generator.randint(8, 60)) for _ in range(500)]
    judge = rule(text_file(tmp_path, *map(" ".join, examples)))
    planted, caught, right = 0, 0, 0
    for number in range(2000):
        document = prose(generator.randint(0, 200))
        is_planted = number % 4 == 0
        if is_planted:
            example = generator.choice(examples)
            length = min(len(example), 13)
            start = generator.randint(0, len(example) - length)
            at = generator.randint(0, len(document))
            document[at:at] = example[start : start + length]
        is_caught = bool(found(judge, " ".join(document)))
        planted, caught = planted + is_planted, caught + is_caught
        right += is_planted and is_caught
    print(f"\n{planted} planted, precision {right / caught:.3f}, recall {right / planted:.3f}")
    assert planted == caught == right == 500


def test_the_rule_travels_to_other_processes(tmp_path: Path) -> None:
    """Would catch state that cannot be pickled, or an index that travels with the rule."""
    judge = rule(text_file(tmp_path, QUESTION))
    judge.prepare()
    packed = pickle.dumps(judge)
    assert len(packed) < 2000
    assert found(pickle.loads(packed), QUESTION) == ["quiz: 14 passages"]
