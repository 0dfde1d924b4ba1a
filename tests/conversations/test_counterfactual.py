"""Counterfactuals of a set: what is swapped, what is left, and that nothing else changes."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.conversations.talks import FORGETFUL, HEADERS, TRAINED
from tests.corpus.reading.samples import lines, write
from trainer.conversations.examples import marked_examples
from trainer.conversations.marking import ExampleCounts, Marked
from trainer.conversations.sets import counts_line, ensure_set
from trainer.conversations.template import ChatTemplate
from trainer.data.manifest import load_manifest
from trainer.data.stream import Stream
from trainer.data.token_flags import ID_MASK, SEGMENT
from trainer.data.tokenizer import load_tokenizer
from trainer.errors import RecipeError
from trainer.recipe import Recipe
from trainer.recipe.fine_tuning import ConversationsSection
from trainer.sources import corpus_folders, stream_arguments
from trainer.trace import trace

CHATML = ChatTemplate(TRAINED)
ALL = {"counterfactual": 1.0}


def read(
    path: Path, records: list[Any], kind: Any = "conversations", length: int = 1024, **keys: Any
) -> tuple[list[Marked], ExampleCounts]:
    counts, section = ExampleCounts(), ConversationsSection(**keys)
    file = write(path / "talks.jsonl", lines(*records))
    template = ChatTemplate(TRAINED, section.template)
    return list(marked_examples([str(file)], kind, template, section, length, counts)), counts


def text_of(marked: Marked) -> str:
    return TRAINED.decode((marked.tokens & ID_MASK).tolist())


def talk(*texts: str, **more: Any) -> dict[str, Any]:
    roles = ("system", "user", "assistant", "user", "assistant")
    turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return {"messages": turns, **more}


SKIPPER = talk(
    "You are the assistant of Captain John Reed.",
    "Who steers? Write `heading`.",
    "John does. His wife waits for him.",
    "Where is her boat?",
    "Hers is in port; I saw her there.",
)
SWAPPED_SKIPPER = (
    "You are the assistant of Captain Mary Reed.",
    "Mary does. Her husband waits for her.",
    "Where is his boat?",
    "His is in port; I saw him there.",
)
PLAIN = talk("You help.", "What floats?", "A boat floats.")


def test_all_turns_change_together(tmp_path: Path) -> None:
    """Would catch a name that stays in a turn without a pronoun, or a target that is lost."""
    found, counts = read(tmp_path, [SKIPPER, PLAIN], balance=ALL)
    assert [(one.place.number, one.counterfactual, one.beside) for one in found] == [
        (1, False, False),
        (1, True, True),
        (2, False, False),
    ]
    swapped = text_of(found[1])
    assert all(part in swapped for part in SWAPPED_SKIPPER) and "`heading`" in swapped
    assert found[1].identity == found[0].identity
    # Both answers are learnt, in both.
    assert "John" in text_of(found[0]) and found[1].targets > 0
    assert (counts.read, counts.used, counts.added, counts.sequences) == (2, 2, 1, 2)


def test_without_the_key_nothing_changes_and_with_it_only_copies_come(tmp_path: Path) -> None:
    """Would catch an original that the option changes; negative control: there are copies."""
    for kind, records in (
        ("conversations", [SKIPPER, PLAIN] * 40),
        ("pairs", [pair(n) for n in range(5)]),
        ("judged", [pair(n) for n in range(5)]),
    ):
        plain, _ = read(tmp_path, records, kind, 4096)
        with_copies, counts = read(tmp_path, records, kind, 4096, balance=ALL)
        kept = [one for one in with_copies if not one.beside]
        assert [one.tokens.tolist() for one in kept] == [one.tokens.tolist() for one in plain]
        assert len(with_copies) - len(plain) == counts.added > 0
        off, _ = read(tmp_path, records, kind, 4096, balance={"counterfactual": 0.0})
        assert [one.tokens.tolist() for one in off] == [one.tokens.tolist() for one in plain]


def pair(number: int) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": f"Who mends boat {number}?"}],
        "chosen": [{"role": "assistant", "content": f"John, with his {number} tools."}],
        "rejected": [{"role": "assistant", "content": f"John is away, {number} times."}],
    }


def test_both_answers_of_a_pair_change_alike(tmp_path: Path) -> None:
    """Would catch a rejected answer without a pronoun that keeps the name."""
    _, other = read(tmp_path, [pair(1)], "pairs", balance=ALL)[0]
    text = text_of(other)
    assert "Mary, with her 1 tools" in text and "Mary is away, 1 times" in text
    assert "John" not in text and (other.tokens & SEGMENT).astype(bool).sum() == 1


def test_answers_that_swapping_makes_equal_are_no_pair(tmp_path: Path) -> None:
    """Would catch a pair in which there is nothing to prefer."""
    records = [{"prompt": "Who?", "chosen": " Ms Reed came", "rejected": " Mrs Reed came"}]
    found, counts = read(tmp_path, records, "pairs", balance=ALL)
    assert len(found) == 1 and "equal once swapped" in "".join(counts.changes)


def test_a_judged_counterfactual_is_compared_with_what_its_example_is(tmp_path: Path) -> None:
    """Would catch KTO's other answer taken from the example's own mirror image."""
    found, _ = read(tmp_path, [pair(n) for n in range(3)], "judged", balance=ALL)
    assert len(found) == 12
    others = [text_of(one).split("assistant\n")[-1] for one in found]
    assert others[::2] == others[1::2] and "Mary" not in "".join(others)


CALL = {"type": "function", "function": {"name": "seek", "arguments": {"who": "John"}}}
UNBOUND = {"type": "function", "function": {"name": "seek", "arguments": {"who": "Reed"}}}
CODE = ("You help.", "What does he call `father`?", "His father is `father`.")


@pytest.mark.parametrize(
    ("record", "added"),
    [
        (talk("You help.", "Find his boat, John's.", "It is his."), 1),
        ({"messages": [{"role": "user", "content": "Find his boat, John's."},
                       {"role": "assistant", "content": "", "tool_calls": [CALL]}]}, 0),
        ({"messages": [{"role": "user", "content": "Find his boat, Reed's."},
                       {"role": "assistant", "content": "", "tool_calls": [UNBOUND]}]}, 1),
        ({"messages": [{"role": "user", "content": "Find his boat."},
                       {"role": "assistant", "content": "", "tool_calls": [UNBOUND]},
                       {"role": "tool", "content": "John has it"},
                       {"role": "assistant", "content": "He has it."}]}, 0),
        (talk(*CODE), 0),
        (talk(*CODE[:2], "His folder is `folder`."), 1),
    ],
)  # fmt: skip
def test_calls_documents_and_code_stay_and_bind_the_text(
    tmp_path: Path, record: dict[str, Any], added: int
) -> None:
    """Would catch an answer about Mary behind a call that seeks John."""
    found, counts = read(tmp_path, [record], balance=ALL)
    assert (counts.used, counts.added, len(found)) == (1, added, 1 + added)
    assert counts.changes.get("gendered terms in calls, documents or code, and so without a"
                              " counterfactual", 0) == 1 - added  # fmt: skip


@pytest.mark.parametrize(("who", "added"), [("John", 0), ("Reed", 1)])
def test_documents_bind_the_text(tmp_path: Path, who: str, added: int) -> None:
    """Would catch an answer about her from a passage about John."""
    template = tmp_path / "documents.jinja"
    template.write_text("{% for one in documents or [] %}{{ one.text }}{% endfor %}" + HEADERS)
    record = talk("You help.", "Find his boat.", "It is his.", documents=[{"text": f"of {who}"}])
    _, counts = read(tmp_path, [record], balance=ALL, template=str(template))
    assert (counts.used, counts.added) == (1, added)


def test_parts_and_reasoning_change_with_the_text(tmp_path: Path) -> None:
    """Would catch a thought about him in front of an answer about her."""
    thought = [{"type": "thinking", "thinking": "He asks."}, {"type": "text", "text": "His it is."}]
    records = [
        {"messages": [{"role": "user", "content": "Is it his?"},
                      {"role": "assistant", "content": thought}]},
        {"messages": [{"role": "user", "content": "Is it his?"},
                      {"role": "assistant", "content": "His.", "reasoning_content": "He asks."}]},
    ]  # fmt: skip
    found, _ = read(tmp_path, records, balance=ALL)
    for one in found[1::2]:
        text = text_of(one)
        assert (
            one.counterfactual and "She asks" in text and "Hers" in text and "He asks" not in text
        )


def test_every_template_gets_the_swapped_turns(tmp_path: Path) -> None:
    """Would catch a template that rewrites earlier turns and splits the copy otherwise."""
    template = tmp_path / "chat.jinja"
    template.write_text(FORGETFUL)
    asked = {"role": "user", "content": "And his boat?"}
    said = {"role": "assistant", "content": "<think>He asks.</think>His boat."}
    record = {"messages": [asked, said, asked, said]}
    found, counts = read(tmp_path, [record], balance=ALL, template=str(template))
    assert [one.counterfactual for one in found] == [False, False, True, True]
    assert (counts.used, counts.added, counts.sequences) == (1, 1, 2)
    assert text_of(found[3]).count("Her boat") == text_of(found[1]).count("His boat") > 0


def test_a_replaced_example_is_gone_and_said(tmp_path: Path) -> None:
    """Would catch `replace` that adds, or that leaves no word."""
    found, counts = read(tmp_path, [SKIPPER, PLAIN], balance=ALL | {"replace": True})
    assert [(one.counterfactual, one.beside) for one in found] == [(True, False), (False, False)]
    assert "Mary" in text_of(found[0]) and (counts.used, counts.added) == (2, 0)
    assert "1 with gendered terms swapped" in counts_line("talks.jsonl", counts)


def test_a_counterfactual_that_is_too_long_costs_no_example(tmp_path: Path) -> None:
    """Would catch an example lost, or a run stopped, for a copy that nobody wrote."""
    record = {"question": "Who is he?", "answer": "He is the groom."}
    (alone,), _ = read(tmp_path, [record])
    for too_long in ("drop", "stop"):
        keys = {"balance": ALL, "too_long": too_long}
        found, counts = read(tmp_path, [record], length=len(alone.tokens) - 1, **keys)
        assert len(found) == 1 and (counts.used, counts.added, counts.dropped_long) == (1, 0, 0)
        assert "a counterfactual left out as too long" in counts_line("talks.jsonl", counts)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the recipe of a set, with keys of `conversations`."""
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path / "cache"))
    TRAINED.save(tmp_path / "tokenizer")
    names = [f"{boat} {n}" for n in range(20) for boat in ("Gull", "Tern")]
    talks = [talk("You help.", f"Is the {name} his?", f"The {name} is his.") for name in names]
    source = tmp_path / "talks.jsonl"
    source.write_text("".join(json.dumps(one) + "\n" for one in talks))

    def make(**conversations: Any) -> Recipe:
        return Recipe.from_keys(
            {
                **{"stage": "sft", "run": "unused", "steps": 1, "sequence_length": 256},
                **{"model": {"layers": 1, "hidden": 8, "heads": 1, "ffn": 8}},
                **{"batch": {"sequences": 4}, "optimizer": {"lr": 1e-3}},
                "tokenizer": str(tmp_path / "tokenizer"),
                "data": {"mixture": [{"corpus": str(source)}]},
                "conversations": conversations,
            }
        )

    return make


def test_both_stand_on_one_side_of_the_split_and_can_be_traced(recipe) -> None:
    """Would catch a validation set whose mirror image is trained on, or a copy of no origin."""
    made = recipe(validation=0.3, balance=ALL)
    (folder,) = corpus_folders(made)
    manifest = load_manifest(folder)
    told = manifest.provenance["examples"]
    documents = {name: split.documents for name, split in manifest.splits.items()}
    assert documents["validation"] == 2 * told["held_out"] > 0
    assert documents["train"] == 2 * (40 - told["held_out"]) > 0
    line = counts_line("talks.jsonl", ExampleCounts(**told))
    assert f"40 of 40 examples, {told['held_out']} of them held out" in line
    assert "; 40 counterfactual ones added;" in line and "sequences" not in line
    arguments = stream_arguments(made, [folder])
    steps = -(-documents["train"] // 4)
    found = {
        entry.document_id for step in range(1, steps + 1) for entry in trace(arguments, 4, step)
    }
    originals = {name for name in found if not name.endswith("#counterfactual")}
    copies = {name.removesuffix("#counterfactual") for name in found - originals}
    assert copies == originals and all("talks.jsonl line" in name for name in originals)
    assert {name.removesuffix("#counterfactual") for name in held_out(folder)} <= held_out(folder)


def held_out(folder: Path) -> set[str]:
    """The ids of the examples that are held out."""
    with tarfile.open(next((folder / "validation").glob("*.tar"))) as tar:
        members = [one for one in tar if one.name.endswith(".json")]
        return {json.loads(tar.extractfile(one).read())["id"] for one in members}


def test_a_copy_is_packed_as_a_document_of_its_own(recipe) -> None:
    """Would catch a copy that sees its original, which says the answer beforehand."""
    made = recipe(validation=0.0, balance=ALL)
    (folder,) = corpus_folders(made)
    batch = Stream(**stream_arguments(made, [folder])).next(4, range(4))
    starts = (batch.position_ids == 0).sum().item()
    tokenizer = load_tokenizer(folder / "tokenizer")
    asked = tokenizer.decode(batch.tokens.flatten().tolist()).count("<|im_start|>system")
    assert asked > 4 and starts >= asked


def test_a_set_without_the_option_keeps_its_folder(recipe) -> None:
    """Would catch every set of every run built anew, since a key was added that it does not use."""

    def built(**keys: Any) -> Path:
        made = recipe(**keys)
        return ensure_set(made, made.data.mixture[0].corpus)

    plain = built()
    kept = json.loads((plain / "manifest.json").read_text())["provenance"]["settings"]
    assert "balance" not in kept
    with pytest.raises(RecipeError, match="no example gets a counterfactual"):
        built(balance={"replace": True})
    others = {built(balance={"counterfactual": 0.5}), built(balance=ALL)}
    assert plain not in others and len(others) == 2


def test_the_share_is_met_by_the_content_alone(tmp_path: Path) -> None:
    """Would catch a choice that hangs on the order of the examples."""
    records = [talk("You help.", f"Is {n} his?", "His.") for n in range(400)]
    some, counts = read(tmp_path, records, balance={"counterfactual": 0.25})
    # Four standard deviations of a binomial of 400 and 0.25 are 35.
    assert abs(counts.added - 100) < 35
    turned, _ = read(tmp_path, records[::-1], balance={"counterfactual": 0.25})
    chosen = [{one.identity for one in found if one.beside} for found in (some, turned)]
    assert chosen[0] == chosen[1]
