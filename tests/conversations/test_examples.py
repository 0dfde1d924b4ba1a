"""A whole set: each example used or accounted for, and one line for what stops it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from tests.conversations.talks import TRAINED, shown
from tests.conversations.test_preferences import segments
from tests.corpus.reading.samples import lines, write
from trainer.conversations.examples import marked_examples
from trainer.conversations.marking import ExampleCounts, Marked
from trainer.conversations.template import ChatTemplate
from trainer.data.token_flags import GOOD
from trainer.errors import DataError
from trainer.recipe.fine_tuning import ConversationsSection

CHATML = ChatTemplate(TRAINED)


def read(
    path: Path,
    kind: Any = "conversations",
    sequence_length: int = 512,
    rows: int | None = None,
    **section: Any,
) -> tuple[list[Marked], ExampleCounts]:
    counts = ExampleCounts()
    chosen = ConversationsSection(**section)
    found = marked_examples([str(path)], kind, CHATML, chosen, sequence_length, counts, rows=rows)
    return list(found), counts


def refusal(path: Path, kind: Any = "conversations", **given: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(path, kind, **given)
    return str(caught.value)


def asked(question: str, answer: str) -> dict[str, Any]:
    return {"question": question, "answer": answer}


def test_mixed_forms_are_counted(tmp_path: Path) -> None:
    """Would catch counts that are not those of what is given out."""
    records = (asked("a", "b"), {"instruction": "a", "output": "b"}, asked("a", "c"))
    found, counts = read(write(tmp_path / "a.jsonl", lines(*records)))
    assert [one.place.number for one in found] == [1, 2, 3]
    assert found[0].identity == found[1].identity != found[2].identity
    assert (counts.read, counts.used, counts.malformed, counts.cut) == (3, 3, 0, 0)
    assert counts.tokens == sum(len(one.tokens) for one in found)
    assert counts.targets == sum(one.targets for one in found) == 6
    assert all(one.tokens.dtype == np.uint32 for one in found) and found[0].characters == 2


def test_a_token_without_a_row_is_found_while_the_set_is_read(tmp_path: Path) -> None:
    """Would catch a run that stops at it after hours, whatever `malformed` says."""
    last = max(TRAINED.encode("capital of France"))
    pair = {"prompt": "Which?", "chosen": "capital of France", "rejected": "b"}
    judged = [{"prompt": str(n), "completion": "capital of France", "label": True} for n in (1, 2)]
    records = {
        "conversations": [asked("capital of France", "b"), asked("a", "b")],
        "pairs": [pair, {**pair, "chosen": "a"}],
        "judged": [*judged, *({**one, "completion": "a"} for one in judged)],
    }
    for kind, held in records.items():
        path = write(tmp_path / f"{kind}.jsonl", lines(*held))
        line = refusal(path, kind, rows=last)
        assert f" (token {last}), and the model's embedding has {last} rows: leave" in line
        assert line.startswith(f"{path} line 1: holds ")
        found, counts = read(path, kind, rows=last, malformed="drop")
        assert found and counts.malformed and counts.first_malformed.startswith(f"{path} line 1:")
        assert len(read(path, kind, rows=last + 1)[0]) > len(found), "the negative control"


BAD = {"messages": [{"role": "user", "content": "Hi"}]}
TOLD = "has no assistant turn; or set conversations.malformed=drop"


def test_a_bad_example_is_named_in_each_kind_of_file(tmp_path: Path) -> None:
    """Would catch an error that leaves the reader to search a file of a million examples."""
    good = {"messages": [*BAD["messages"], {"role": "assistant", "content": "Yes"}]}
    path = write(tmp_path / "a.jsonl", lines(good, b"", BAD))
    assert refusal(path) == f"{path} line 3: {TOLD}"
    path = write(tmp_path / "a.json", json.dumps([good, BAD]).encode())
    assert refusal(path) == f"{path} record 2: {TOLD}"
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([good, good, BAD]), path)
    assert refusal(path) == f"{path} row 3: {TOLD}"


def test_bad_examples_are_dropped_by_the_recipes_word(tmp_path: Path) -> None:
    """Would catch reading that ends at the first bad line, or forgets which it was."""
    forged = asked("<|im_end|>", "b")
    path = write(tmp_path / "a.jsonl", lines(asked("a", "b"), b"{", BAD, forged, asked("c", "d")))
    found, counts = read(path, malformed="drop")
    assert [one.place.number for one in found] == [1, 5]
    assert (counts.read, counts.used, counts.malformed) == (5, 2, 3)
    assert counts.first_malformed is not None
    assert counts.first_malformed.startswith(f"{path} line 2: not JSON (")


def test_a_set_with_nothing_left_is_refused(tmp_path: Path) -> None:
    """Would catch a run over no examples."""
    path = write(tmp_path / "a.jsonl", lines(BAD, asked("a", "b" * 500)))
    assert refusal(path, malformed="drop", sequence_length=64) == (
        f"{path}: none of 2 examples can be used (1 too long, 1 malformed); the first malformed:"
        f" {path} line 1: has no assistant turn: mend them, or raise sequence_length"
    )
    empty = write(tmp_path / "b.jsonl", b"\n")
    assert refusal(empty) == f"{empty}: holds no example: give a file that does"


def test_long_conversations_go_the_recipes_way(tmp_path: Path) -> None:
    """Would catch one that is cut or lost without being counted."""
    path = write(tmp_path / "a.jsonl", lines(asked("a", "b"), asked("a", "xyz " * 99)))
    _, counts = read(path, sequence_length=64)
    assert (counts.used, counts.dropped_long, counts.cut) == (1, 1, 0)
    found, counts = read(path, sequence_length=64, too_long="cut")
    assert (counts.used, counts.dropped_long, counts.cut) == (2, 0, 1)
    assert len(found[1].tokens) == 65
    told = refusal(path, sequence_length=64, too_long="stop", malformed="drop")
    assert told.startswith(f"{path} line 2: takes ")
    assert told.endswith(
        ", more than sequence_length 64: raise it, or set conversations.too_long=drop"
    )


def test_pairs_are_dropped_whole(tmp_path: Path) -> None:
    """Would catch half a pair, and an equal pair that is used."""
    equal = {"prompt": "Hi", "chosen": "x", "rejected": "x"}
    records = [
        {"prompt": "Hi", "chosen": " Yes", "rejected": " No"},
        {"prompt": "Hi", "chosen": " Yes", "rejected": "xyz " * 99},
        equal,
    ]
    path = write(tmp_path / "a.jsonl", lines(*records))
    found, counts = read(path, "pairs", 64, too_long="cut", malformed="drop")
    assert len(found) == 1 and len(segments(found[0].tokens)) == 2
    assert (counts.read, counts.used, counts.dropped_long, counts.malformed) == (3, 1, 1, 1)
    assert refusal(path, "pairs") == (
        f"{path} line 3: chosen and rejected are equal: there is nothing to prefer; or set"
        " conversations.malformed=drop"
    )


def others(found: list[Marked]) -> list[tuple[int, str, bool]]:
    """By line: the other answer, and whether its own is good."""
    told = []
    for one in found:
        ((_, _), (other, _)) = shown(segments(one.tokens)[1], TRAINED)
        told.append((one.place.number, other.split("<")[0], bool(one.tokens[0] & np.uint32(GOOD))))
    return told


def judged(prompt: str, completion: str, label: bool) -> dict[str, Any]:
    return {"prompt": prompt, "completion": completion, "label": label}


def test_each_judged_answer_stands_beside_one_to_another_prompt(tmp_path: Path) -> None:
    """Would catch an answer beside its own prompt's, by which the divergence is overestimated."""
    records = [
        judged("p", "a", True),
        judged("p", "b", False),
        judged("q", "c", True),
        judged("q", "d", False),
        judged("p", "e", True),
    ]
    found, counts = read(write(tmp_path / "a.jsonl", lines(*records)), "judged")
    assert sorted(others(found)) == [
        *((1, "d", True), (2, "d", False), (3, "b", True), (4, "b", False), (5, "d", True)),
    ]
    assert (counts.read, counts.used) == (5, 5)


def test_pairs_can_be_judged(tmp_path: Path) -> None:
    """Would catch a good answer beside the bad one to its own prompt."""
    records = [
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": "q", "chosen": "c", "rejected": "d"},
    ]
    found, counts = read(write(tmp_path / "a.jsonl", lines(*records)), "judged")
    assert sorted(others(found)) == [
        (1, "d", False),
        (1, "d", True),
        (2, "b", False),
        (2, "b", True),
    ]
    assert (counts.read, counts.used) == (4, 4)


def test_a_bad_judged_answer_is_nobodys_other(tmp_path: Path) -> None:
    """Would catch an example blamed for what stands in its neighbour."""
    records = [
        judged("p", "a", True),
        {"prompt": [{"role": "user", "content": "r"}], "completion": "<|im_end|>", "label": True},
        judged("q", "c", True),
    ]
    path = write(tmp_path / "a.jsonl", lines(*records))
    found, counts = read(path, "judged", malformed="drop")
    assert others(found) == [(3, "a", True), (1, "c", True)]
    assert counts.malformed == 1


def test_answers_to_one_prompt_only_are_refused(tmp_path: Path) -> None:
    """Would catch kto without anything to compare with."""
    path = write(tmp_path / "a.jsonl", lines(judged("p", "a", True), judged("p", "b", False)))
    assert refusal(path, "judged") == (
        f"{path} line 2: is the last of answers to one prompt only: kto needs those to another, to"
        " compare with"
    )
