"""Sets in shards: what is a target survives storing and packing, and nothing leaks."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conversations.talks import FORGETFUL
from trainer.conversations import sets
from trainer.conversations.sets import counts_line, ensure_set
from trainer.corpus.inspect.contents import inspect_corpus
from trainer.corpus.inspect.search import find_passage
from trainer.corpus.inspect.verify import verify_corpus
from trainer.corpus.reading.files import InputFile
from trainer.data.batch import IGNORE, Batch
from trainer.data.manifest import load_manifest
from trainer.data.references import read_references, reference_folder, write_references
from trainer.data.stream import Stream
from trainer.data.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from trainer.errors import DataError
from trainer.recipe import Recipe
from trainer.sources import corpus_folders, stream_arguments
from trainer.trace import trace

TOKENIZER = train_tokenizer(["What is it? It is a word and another word."] * 20, 300)
LENGTH = 64
MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeRecipe:
    """A recipe over a file of examples, by stage."""
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path / "cache"))
    TOKENIZER.save(tmp_path / "tokenizer")

    def make(stage: str, examples: list[dict[str, Any]], **keys: Any) -> Recipe:
        source = tmp_path / f"{stage}.jsonl"
        source.write_text("".join(json.dumps(one) + "\n" for one in examples), encoding="utf-8")
        return Recipe.from_keys(
            {
                **{"stage": stage, "run": "unused", "steps": 1, "sequence_length": LENGTH},
                **{"model": {"layers": 1, "hidden": 8, "heads": 1, "ffn": 8}},
                **{"batch": {"sequences": 4}, "optimizer": {"lr": 1e-3}},
                "tokenizer": str(tmp_path / "tokenizer"),
                "data": {"mixture": [{"corpus": str(source)}]},
                "conversations": {"validation": 0.0},
                **keys,
            }
        )

    return make


def conversations(count: int) -> list[dict[str, Any]]:
    return [
        {"prompt": [{"role": "user", "content": f"What is {n}?"}],
         "completion": [{"role": "assistant", "content": f"It is {n * n}."}]}
        for n in range(count)
    ]  # fmt: skip


def pairs(count: int) -> list[dict[str, Any]]:
    return [
        {"prompt": f"What is {n}?", "chosen": f" It is {n}.", "rejected": " No" + " no" * (n % 4)}
        for n in range(count)
    ]


def answers_of(batch: Batch, tokenizer: Tokenizer) -> list[str]:
    """The labels of each segment as text, in order; unlabelled positions left out."""
    found = []
    for labels, positions in zip(batch.labels, batch.position_ids, strict=True):
        starts = [*torch.nonzero(positions == 0).flatten().tolist(), len(labels)]
        for first, last in itertools.pairwise(starts):
            kept = labels[first:last]
            kept = kept[kept != IGNORE]
            if len(kept):
                found.append(tokenizer.decode(kept.tolist()))
    return found


def test_targets_are_the_answers_whatever_the_packing(recipe) -> None:
    """Catches a mask that moves by one, or that two conversations in a row share."""
    made = recipe("sft", conversations(30))
    (folder,) = corpus_folders(made)
    assert load_manifest(folder).kind == "conversations"
    expected = sorted(f"It is {n * n}.<|im_end|>" for n in range(30))
    for packing in ("best_fit", "none"):
        arguments = {**stream_arguments(made, [folder]), "packing": packing}
        stream = Stream(**arguments)
        rows = []
        while not stream.ends_epoch():
            rows.append(stream.next(1, [0]))
        found = [text for batch in rows for text in answers_of(batch, TOKENIZER)]
        assert sorted(found) == expected
        assert (len(rows) == 30) == (packing == "none")
        assert all(int(batch.tokens.max()) < TOKENIZER.size for batch in rows)


def test_tokens_and_padding_are_told_apart(recipe) -> None:
    """Catches questions that are counted as padding, and padding that is counted as tokens."""
    made = recipe("sft", conversations(3))
    (folder,) = corpus_folders(made)
    batch = Stream(**{**stream_arguments(made, [folder]), "packing": "none"}).next(3, range(3))
    split = load_manifest(folder).splits["train"]
    assert batch.tokens.numel() - batch.padding == split.tokens - split.documents
    assert batch.segments is None


def test_documents_beside_conversations_are_targets_throughout(recipe, tmp_path) -> None:
    """Catches a mixture in which text is read and not learned."""
    from tests.data.corpora import random_documents, write_corpus

    made = recipe("sft", conversations(12))
    (folder,) = corpus_folders(made)
    documents = write_corpus(tmp_path / "text", [random_documents([20] * 6, 1, vocab=250)])
    # The two agree on a tokenizer, as corpora of one run must.
    manifest = json.loads((documents / "manifest.json").read_text())
    manifest["tokenizer"]["fingerprint"] = load_manifest(folder).tokenizer_fingerprint
    (documents / "manifest.json").write_text(json.dumps(manifest))
    arguments = stream_arguments(made, [folder]) | {"epochs": None, "packing": "none"}
    arguments["sources"] = [[str(documents), 1.0], [str(folder), 1.0]]
    batch = Stream(**arguments).next(8, range(8))
    supervised = (batch.labels != IGNORE).sum(dim=1).tolist()
    assert supervised.count(19) == 4, "every position of a document"
    assert all(0 < count < 19 for count in supervised if count != 19)


def test_pairs_stay_together_and_carry_their_references(recipe) -> None:
    """Catches a rejected answer that sees the chosen one, or gets another's reference."""
    made = recipe("preference", pairs(20))
    (folder,) = corpus_folders(made)
    (shard,) = load_manifest(folder).splits["train"].shards
    known = np.arange(40, dtype=np.float32).reshape(20, 2) + 1
    write_references(reference_folder(folder, "key"), {shard.name: known}, {})
    stream = Stream(**stream_arguments(made, [folder]), references="key")
    seen: dict[float, str] = {}
    while not stream.ends_epoch():
        batch = stream.next(1, [0])
        assert batch.segments is not None
        (count,) = batch.segments.counts.tolist()
        texts = answers_of(batch, TOKENIZER)
        assert len(texts) == count and count % 2 == 0
        assert answers_of(batch.first_answers(), TOKENIZER) == texts[::2]
        seen |= dict(zip(batch.segments.reference[0, :count].tolist(), texts, strict=True))
    assert sorted(seen) == list(range(1, 41))
    for number, text in seen.items():
        assert text.startswith(" It is" if number % 2 else " No"), "chosen first"
        assert text.endswith("<|endoftext|>")


def test_judged_answers_say_which_are_good(recipe) -> None:
    """Catches a verdict that is lost in storing, or lands on the other answer."""
    examples = [
        {"prompt": f"What is {n}?", "completion": f" good {n}" if n % 3 else f" bad {n}",
         "label": bool(n % 3)}
        for n in range(15)
    ]  # fmt: skip
    made = recipe("preference", examples, preference={"loss": "kto"})
    (folder,) = corpus_folders(made)
    arguments = {**stream_arguments(made, [folder]), "packing": "none"}
    batch = Stream(**arguments).next(15, range(15))
    assert batch.segments is not None
    texts = answers_of(batch, TOKENIZER)
    for good, own, other in zip(batch.segments.good[:, 0], texts[::2], texts[1::2], strict=True):
        assert own.startswith(" good") == bool(good)
        assert own != other
    assert not batch.segments.good[:, 1].any()


def test_altered_references_are_refused(recipe) -> None:
    """Catches a run against a reference that somebody changed, or that is of other data."""
    made = recipe("preference", pairs(6))
    (folder,) = corpus_folders(made)
    (shard,) = load_manifest(folder).splits["train"].shards
    stored = reference_folder(folder, "key")
    write_references(stored, {shard.name: np.ones((6, 2), dtype=np.float32)}, {})
    assert read_references(stored, shard, 2).shape == (6, 2)
    (path,) = stored.rglob("*.npy")
    changed = np.ones((6, 2), dtype=np.float32) * 2
    np.save(path, changed)
    with pytest.raises(DataError, match="was altered; remove"):
        read_references(stored, shard, 2)
    with pytest.raises(DataError, match="cannot be read"):
        read_references(folder / "absent", shard, 2)


def test_a_shorter_sequence_is_refused_and_nothing_is_split(recipe) -> None:
    """Catches an answer that is cut from its question."""
    made = recipe("sft", conversations(4))
    (folder,) = corpus_folders(made)
    stream = Stream(**{**stream_arguments(made, [folder]), "sequence_length": 8})
    with pytest.raises(
        DataError, match=r"has an example of .* positions, and sequence_length is 8"
    ):
        stream.next(1, [0])


def test_a_set_is_built_once_and_again_when_anything_changes(recipe) -> None:
    """Catches a stale set after the file, the template or the length has changed."""
    made = recipe("sft", conversations(5))
    (first,) = corpus_folders(made)
    stamp = (first / "manifest.json").stat().st_mtime_ns
    assert corpus_folders(made) == [first]
    assert (first / "manifest.json").stat().st_mtime_ns == stamp
    others = {
        corpus_folders(recipe("sft", conversations(5), sequence_length=48))[0],
        corpus_folders(recipe("sft", conversations(6)))[0],
    }
    assert first not in others and len(others) == 2


def test_a_small_set_holds_something_out(recipe) -> None:
    """Catches a run that stops at its first evaluation, for a share that rounds to nothing."""
    made = recipe("sft", conversations(9), conversations={"validation": 0.001})
    splits = load_manifest(corpus_folders(made)[0]).splits
    assert (splits["train"].documents, splits["validation"].documents) == (8, 1)
    alone = recipe("sft", conversations(1), conversations={"validation": 0.001})
    assert set(load_manifest(corpus_folders(alone)[0]).splits) == {"train"}


def test_what_was_left_out_is_told(recipe) -> None:
    """Catches examples that disappear without a word."""
    long = {"prompt": "Say much.", "completion": " word" * 200}
    examples = [*conversations(4), long, {"messages": [{"role": "user", "content": "Alone?"}]}]
    section = {"validation": 0.0, "too_long": "drop", "malformed": "drop"}
    made = recipe("sft", examples, conversations=section)
    (folder,) = corpus_folders(made)
    examples_told = load_manifest(folder).provenance["examples"]
    assert (examples_told["read"], examples_told["used"]) == (6, 4)
    assert (examples_told["dropped_long"], examples_told["malformed"]) == (1, 1)
    assert "sft.jsonl line 6" in examples_told["first_malformed"]
    from trainer.conversations.marking import ExampleCounts

    line = counts_line("sft.jsonl", ExampleCounts(**examples_told))
    assert "4 of 6 examples; 1 too long; 1 malformed" in line and "supervised" in line
    line = counts_line("sft.jsonl", ExampleCounts(**examples_told | {"held_out": 1}))
    assert "4 of 6 examples, 1 of them held out for validation; 1 too long" in line


def test_keys_that_nothing_reads_are_kept_and_told(recipe) -> None:
    """Catches counts by name that no JSON can hold, so that the set cannot be built at all."""
    made = recipe("sft", [{**one, "origin": "a web page"} for one in conversations(4)])
    (folder,) = corpus_folders(made)
    examples_told = load_manifest(folder).provenance["examples"]
    assert sum(examples_told["unread"].values()) == 4
    assert "origin" in "".join(examples_told["unread"])


def test_what_was_done_to_a_set_and_what_nothing_read_is_in_its_account(recipe) -> None:
    """Catches meaning that is lost between a file and its tokens without a word."""
    call = {"type": "function", "function": {"name": "tide", "arguments": {}}}
    asked, answer = {"role": "user", "content": "High?"}, {"role": "assistant", "content": "1 m."}
    examples = [
        *conversations(4),
        {"messages": [asked, answer | {"reasoning_content": "Hm."}], "level": 3},
        {"messages": [asked, answer | {"tool_calls": [call], "mood": "glad"}, asked], "level": 3},
    ]
    made = recipe("sft", examples)
    told = load_manifest(corpus_folders(made)[0]).provenance["examples"]
    from trainer.conversations.marking import ExampleCounts

    line = counts_line("sft.jsonl", ExampleCounts(**told))
    assert "1 with reasoning written into the answer's text" in line
    assert "1 with tool calls written as a line of JSON" in line
    assert "1 with last turn without an answer cut" in line
    assert "keys that nothing reads: level (2), turns' mood (1)" in line


def test_a_split_conversation_is_held_out_whole_or_not_at_all(recipe, tmp_path) -> None:
    """Catches a conversation whose one answer is trained and whose other is evaluated."""
    template = tmp_path / "chat.jinja"
    template.write_text(FORGETFUL)
    asked, thought = {"role": "user"}, {"role": "assistant", "content": "<think>Hm.</think>No."}
    examples = [
        {
            "messages": [
                asked | {"content": f"One {n}?"},
                thought,
                asked | {"content": "Two?"},
                thought,
            ]
        }
        for n in range(9)
    ]
    section = {"validation": 0.3, "template": str(template)}
    made = recipe("sft", examples, sequence_length=256, conversations=section)
    manifest = load_manifest(corpus_folders(made)[0])
    told = manifest.provenance["examples"]
    assert (told["used"], told["sequences"]) == (9, 18)
    assert told["held_out"] * 2 == manifest.splits["validation"].documents
    held = {name: split.documents for name, split in manifest.splits.items()}
    assert held["validation"] % 2 == 0 and held["train"] % 2 == 0 and sum(held.values()) == 18


def test_a_failed_build_leaves_nothing_that_looks_whole(recipe, tmp_path) -> None:
    """Catches a half-read set that the next start takes for the whole."""
    made = recipe("sft", [*conversations(4), {"what": "is this"}])
    with pytest.raises(DataError, match=r"sft.jsonl line 5"):
        corpus_folders(made)
    assert not list((tmp_path / "cache/sets").glob("*/manifest.json"))


def test_a_set_can_be_verified_searched_and_traced(recipe) -> None:
    """Catches marks that are taken for tokens where corpora are looked at."""
    made = recipe("sft", conversations(12))
    folder = ensure_set(made, made.data.mixture[0].corpus)
    assert verify_corpus(folder) == []
    assert inspect_corpus(folder) is not None
    (match,) = find_passage(folder, "It is 121.", workers=1).whole
    assert "sft.jsonl line 12" in match.id
    entries = trace(stream_arguments(made, [folder]), 4, 1)
    assert all("sft.jsonl line" in entry.document_id for entry in entries)
    assert max(max(entry.first_tokens) for entry in entries) < TOKENIZER.size


def test_a_set_keeps_the_tokenizer_with_the_template_it_was_made_with(recipe) -> None:
    """Catches an export or a chat that speaks another template than the run learned."""
    made = recipe("sft", conversations(3))
    (folder,) = corpus_folders(made)
    kept = load_tokenizer(folder / "tokenizer")
    assert kept.fingerprint == TOKENIZER.fingerprint
    assert kept.chat_template is not None and "<|im_start|>" in kept.chat_template
    assert kept.special_tokens["<|im_end|>"] in kept.ends and kept.end_of_text in kept.ends


@pytest.mark.parametrize("rules", [1, 2])
def test_a_begun_run_goes_on_with_the_set_as_it_was_read(
    recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rules: int
) -> None:
    """Would catch a saved position that belongs to other shards once the builder has changed."""
    made = recipe("sft", conversations(8), run=str(tmp_path / "run"))
    key = sets._key
    # A base with fewer rows than its tokenizer has tokens, which builders before did not ask for.
    monkeypatch.setattr(sets, "_rows", lambda recipe, template: 5000)

    def as_then(settings: dict[str, Any], files: list[InputFile]) -> str:
        lacking = {"rows"} | (sets.NEW_SETTINGS if rules == 1 else set())
        known = {name: held for name, held in settings.items() if name not in lacking}
        return key(known | {"builder_rules": rules}, files)

    with monkeypatch.context() as then:
        then.setattr(sets, "_key", as_then)
        before = corpus_folders(made)
    assert corpus_folders(made) != before
    (tmp_path / "run/checkpoints/step-00000001").mkdir(parents=True)
    assert corpus_folders(made) == before
