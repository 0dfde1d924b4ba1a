"""Pairs and judged answers: two segments, and what is wrong with those that cannot be used."""

from typing import Any

import numpy as np
import pytest

from tests.conversations.talks import PLACE, TRAINED, mark, pair_tokens, shown
from trainer.conversations.marking import FlaggedTokens, Marker, fits
from trainer.conversations.pairs import judged_of, pair_of
from trainer.conversations.preferences import mark_judged
from trainer.conversations.records import Example
from trainer.conversations.template import ChatTemplate
from trainer.conversations.turns import Message
from trainer.data.token_flags import GOOD, SEGMENT
from trainer.data.tokenizer import END_OF_TEXT
from trainer.errors import DataError
from trainer.recipe import ConversationsSection

CHATML = ChatTemplate(TRAINED)
MARKER = Marker(CHATML, ConversationsSection())


def turn(role: str, content: str = "x") -> dict[str, str]:
    return {"role": role, "content": content}


Q, GOOD_TURN, BAD_TURN = turn("user", "Hi"), turn("assistant", "Yes"), turn("assistant", "No")


def segments(tokens: FlaggedTokens) -> list[FlaggedTokens]:
    """Cut where a segment begins."""
    return np.split(tokens, np.flatnonzero(tokens & np.uint32(SEGMENT)))


def halves(tokens: FlaggedTokens) -> list[list[tuple[str, bool]]]:
    return [shown(half, TRAINED) for half in segments(tokens)]


def pair(**record: Any) -> FlaggedTokens:
    return pair_tokens(pair_of(Example(record, PLACE)), CHATML)


ASKED = ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", False)
EXPECTED = [
    [ASKED, ("Yes<|im_end|>", True), ("\n", False)],
    [ASKED, ("No<|im_end|>", True), ("\n", False)],
]


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": [Q], "chosen": [GOOD_TURN], "rejected": [BAD_TURN]},
        {"prompt": [Q], "chosen": "Yes", "rejected": "No"},
        {"prompt": "Hi", "chosen": [GOOD_TURN], "rejected": [BAD_TURN]},
        {"chosen": [Q, GOOD_TURN], "rejected": [Q, BAD_TURN]},
        {"prompt": "Hi", "chosen": [Q, GOOD_TURN], "rejected": [Q, BAD_TURN], "score": 3},
        {"prompt": [Q], "chosen": [Q, GOOD_TURN], "rejected": [Q, BAD_TURN]},
    ],
)
def test_all_forms_of_pairs_mean_the_same(record: dict[str, Any]) -> None:
    """Would catch a prompt that is lost, doubled or learnt, and sides the wrong way round."""
    assert halves(pair(**record)) == EXPECTED


def test_what_a_pair_does_not_read_is_said_and_makes_no_other_prompt() -> None:
    """Would catch a prompt refused for the times of its turns, or a system prompt unread unsaid."""
    timed = [[Q | {"time": time}, answer] for time, answer in ((1, GOOD_TURN), (2, BAD_TURN))]
    assert halves(pair(chosen=timed[0], rejected=timed[1])) == EXPECTED
    completions = [
        {"response": text, "overall_score": score, "custom_system_prompt": "Be brief."}
        for text, score in (("No", 1), ("Yes", 4))
    ]
    record = {"instruction": "Hi", "completions": completions}
    assert halves(pair(**record)) == EXPECTED
    found = pair_of(Example(record, PLACE)).chosen.conversation.unread
    assert found == ("completions' custom_system_prompt",)


def test_strings_are_plain() -> None:
    """Would catch bare text put into turns, or an answer without its end."""
    assert halves(pair(prompt="Hi", chosen=" Yes", rejected=" No")) == [
        [(f"{END_OF_TEXT}Hi", False), (f" Yes{END_OF_TEXT}", True)],
        [(f"{END_OF_TEXT}Hi", False), (f" No{END_OF_TEXT}", True)],
    ]


def test_answers_in_the_shared_beginning_are_not_learnt() -> None:
    """Would catch a preference that is also counted over what both sides share."""
    shared = [turn("system", "Be brief."), Q, turn("assistant", "Well"), turn("user", "So?")]
    for tokens in (
        pair(chosen=[*shared, GOOD_TURN], rejected=[*shared, BAD_TURN]),
        pair(prompt=shared, chosen=[GOOD_TURN], rejected=[BAD_TURN]),
    ):
        first, second = halves(tokens)
        assert [text for text, target in first if target] == ["Yes<|im_end|>"]
        assert [text for text, target in second if target] == ["No<|im_end|>"]
        assert first[0] == second[0] and "Be brief." in first[0][0] and "Well" in first[0][0]


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (
            {"prompt": "Hi", "chosen": "Yes", "rejected": " Yes\n"},
            "chosen and rejected are equal: there is nothing to prefer",
        ),
        (
            {"chosen": [Q, GOOD_TURN], "rejected": [Q, GOOD_TURN]},
            "chosen and rejected are equal: there is nothing to prefer",
        ),
        (
            {"chosen": [Q, GOOD_TURN], "rejected": [turn("user", "Ho"), BAD_TURN]},
            "chosen and rejected do not begin with the same prompt",
        ),
        (
            {"prompt": "Ho", "chosen": [Q, GOOD_TURN], "rejected": [Q, BAD_TURN]},
            'chosen and rejected do not begin with "prompt"',
        ),
        (
            {
                "chosen": [Q, GOOD_TURN, turn("user", "a"), GOOD_TURN],
                "rejected": [Q, GOOD_TURN, turn("user", "b"), GOOD_TURN],
            },
            "chosen and rejected differ behind turn 2, which is no question: only their answers to"
            " one prompt may differ",
        ),
        (
            {"prompt": [Q], "chosen": [GOOD_TURN], "rejected": "No"},
            "of chosen and rejected one is a string and one is not",
        ),
        (
            {"chosen": "Yes", "rejected": "No"},
            "has no prompt: give one, or chosen and rejected as lists of messages",
        ),
        (
            {"prompt": [Q, BAD_TURN], "chosen": [GOOD_TURN], "rejected": [turn("assistant")]},
            "chosen: does not alternate: turns 2 and 3 are both the assistant's: join"
            " them, or set conversations.same_role=join",
        ),
        (
            {"prompt": [Q], "chosen": [GOOD_TURN], "rejected": [turn("assistant", " ")]},
            "rejected: turn 2: the answer is empty",
        ),
        (
            {"prompt": "Hi", "completion": "Yes", "label": True},
            "unknown form, with the fields prompt, completion, label: a pair has chosen and"
            " rejected; map other names by `columns` in the mixture's entry; judged answers are for"
            " preference.loss=kto",
        ),
    ],
)
def test_what_is_wrong_with_a_pair_is_said(record: dict[str, Any], told: str) -> None:
    """Would catch a preference for nothing, or of answers to different questions."""
    with pytest.raises(DataError) as caught:
        pair(**record)
    assert str(caught.value) == f"talks.jsonl line 7: {told}"


def test_a_pair_takes_the_positions_of_both_sides() -> None:
    """Would catch a pair one position too long, or one that is cut."""
    tokens = pair(prompt=[Q], chosen=[GOOD_TURN], rejected=[BAD_TURN])
    positions = sum(len(half) - 1 for half in segments(tokens))
    assert fits(tokens, positions, "cut", PLACE)
    assert not fits(tokens, positions - 1, "cut", PLACE)
    with pytest.raises(DataError, match=f"line 7: takes {positions} positions, more than"):
        fits(tokens, positions - 1, "stop", PLACE)


OTHER = (Message("assistant", "Else"),)


@pytest.mark.parametrize("label", [True, False, 1, 0])
def test_a_judged_answer_stands_beside_another(label: bool) -> None:
    """Would catch a verdict on the wrong token, or the other answer under its own prompt."""
    record = {"prompt": [Q], "completion": [GOOD_TURN], "label": label}
    (judged,) = judged_of(Example(record, PLACE))
    own = mark(judged.side.conversation, CHATML, special_tokens="text")
    tokens = mark_judged(judged, own, OTHER, MARKER)
    assert np.flatnonzero(tokens & np.uint32(GOOD)).tolist() == ([0] if label else [])
    assert halves(tokens) == [
        EXPECTED[0],
        [ASKED, ("Else<|im_end|>", True), ("\n", False)],
    ]


def test_a_plain_judged_answer_stays_plain() -> None:
    """Would catch the other answer under a template that its own has not."""
    record = {"prompt": "Hi", "completion": " Yes", "label": True}
    (judged,) = judged_of(Example(record, PLACE))
    tokens = mark_judged(
        judged, mark(judged.side.conversation, CHATML, special_tokens="text"), OTHER, MARKER
    )
    assert halves(tokens)[1] == [(f"{END_OF_TEXT}Hi", False), (f"Else{END_OF_TEXT}", True)]


def test_a_pair_is_a_good_and_a_bad_answer() -> None:
    """Would catch a bad answer called good, or the two on different sides of a split."""
    example = Example({"prompt": [Q], "chosen": [GOOD_TURN], "rejected": [BAD_TURN]}, PLACE)
    good, bad = judged_of(example)
    assert (good.good, good.side.answer[0].content) == (True, "Yes")
    assert (bad.good, bad.side.answer[0].content) == (False, "No")
    assert good.identity == bad.identity == pair_of(example).identity


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"prompt": "Hi", "completion": "x", "label": "yes"}, "label 'yes' is neither true nor"),
        ({"prompt": "Hi", "completion": "x"}, "unknown form, with the fields prompt, completion:"),
        ({"prompt": "Hi", "completion": "", "label": True}, "turn 2: the answer is empty"),
        (
            {"prompt": [Q], "completion": [turn("user"), GOOD_TURN], "label": True},
            "does not alternate: turns 1 and 2 are both the user's",
        ),
    ],
)
def test_what_is_wrong_with_a_judged_answer_is_said(record: dict[str, Any], told: str) -> None:
    """Would catch a verdict that is guessed."""
    with pytest.raises(DataError) as caught:
        judged_of(Example(record, PLACE))
    assert str(caught.value).startswith(f"talks.jsonl line 7: {told}")


def test_an_instruction_goes_before_its_input_and_behind_its_history() -> None:
    """Would catch a pair whose question is its input alone."""
    record = {"instruction": "Say it.", "input": "good morning", "history": [["Hi", "Ho"]]}
    chosen, _ = halves(pair(**record, chosen="Yes", rejected="No"))
    assert "user\nHi<|im_end|>" in chosen[0][0] and "assistant\nHo<|im_end|>" in chosen[0][0]
    assert "user\nSay it.\n\ngood morning<|im_end|>" in chosen[0][0]
    assert [text for text, target in chosen if target] == ["Yes<|im_end|>"]


def test_turns_behind_the_judged_answers_are_cut() -> None:
    """Would catch a pair refused for a question that nobody answered."""
    assert halves(pair(chosen=[Q, GOOD_TURN, Q], rejected=[Q, BAD_TURN])) == EXPECTED
