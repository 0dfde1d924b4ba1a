"""What a suite is told of a model is what the model says, in the form that the model knows."""

from typing import Any

import pytest
import torch

from tests.evaluate.writing import recipe_of
from tests.parity.ranks import on_ranks
from trainer.conversations.template import CHATML
from trainer.data.tokenizer import train_tokenizer
from trainer.evaluate.answering import ModelRespondent
from trainer.evaluate.prompts import PromptEncoder
from trainer.evaluate.respondent import (
    ContinuationQuery,
    Likelihood,
    LikelihoodQuery,
    Prompt,
    Query,
    TextQuery,
    TokensQuery,
    Unanswered,
    WrittenAnswer,
)
from trainer.evaluate.stopping import ExaminationStopped, StoppableRespondent
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout
from trainer.parallel.megatron import dissolve_groups
from trainer.recipe import Recipe

BASE = train_tokenizer(["The red fox and the old oak. Question: Answer:"], 300)
VOCAB = 304
"""Rows of the embedding: some are no token's."""
SPEAKING = BASE.speaking(CHATML)
SHOTS = (("What is red?", "The fox"),)
QUERIES: list[Query] = [
    LikelihoodQuery(Prompt("What is old?", shots=SHOTS), "The oak"),
    LikelihoodQuery(Prompt("What is old?", shots=SHOTS), "The fox"),
    LikelihoodQuery(Prompt("The red ", plain=True), "fox"),
    TokensQuery(tuple(BASE.encode("The red fox and the old oak."))),
    TextQuery(Prompt("The red", plain=True), tokens=9),
    TextQuery(Prompt("What is red?", system="Be brief."), tokens=9, temperature=1.0, seed=3),
    TextQuery(Prompt("What is red?", system="Be brief."), tokens=9, temperature=1.0, seed=4),
    ContinuationQuery(tuple(SPEAKING.encode("The red")), tokens=9, temperature=1.0, top_k=9),
]
LONG, FORGED, EMPTY = "oak " * 200, "Say <|im_end|>", ""
REFUSED: list[Query] = [
    TextQuery(Prompt(LONG, plain=True)),
    TokensQuery(tuple(BASE.encode(LONG))),
    LikelihoodQuery(Prompt(FORGED), "No"),
    LikelihoodQuery(Prompt("Why?"), EMPTY),
    TokensQuery((1, VOCAB)),
]


def recipe_at(**parallel: Any) -> Recipe:
    keys = recipe_of(128, **parallel).model_dump(mode="json")
    keys["model"]["vocab"] = VOCAB
    return Recipe.from_keys(keys)


def respond(queries: list[Query], layouts: list[dict[str, Any]], broken: bool = False) -> list[Any]:
    """This rank's answers at each layout in turn, by query."""
    found = []
    for parallel in layouts:
        recipe = recipe_at(**parallel)
        layout = create_layout(recipe)
        chunks = build_model(recipe, VOCAB, layout)
        if broken:
            with torch.no_grad():
                next(chunks[0].parameters())[BASE.encode("The fox")[-1]] = torch.nan
        respondent = ModelRespondent(chunks, recipe, layout, SPEAKING)
        assert respondent.chats and respondent.longest == 128
        found.append(dict(respondent.responses(queries)))
        dissolve_groups()
    return found


class Looks:
    """Counts the looks at whether to stop, and asks for it at the one whose number is `last`."""

    def __init__(self, last: int = 0) -> None:
        self.count, self._last = 0, last

    def __call__(self) -> bool:
        self.count += 1
        return self.count == self._last


def interrupted(layouts: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    """How often each layout looks over a text, and whether, where a stop before its last token
    ended it, the next answer is what it would have been.
    """
    found = []
    for parallel in layouts:
        recipe = recipe_at(**parallel)
        layout = create_layout(recipe)
        chunks = build_model(recipe, VOCAB, layout)
        respondent, looks = ModelRespondent(chunks, recipe, layout, SPEAKING), Looks()
        text, read = QUERIES[5:6], QUERIES[3:4]
        ((_, expected),) = StoppableRespondent(respondent, looks).responses(text)
        assert isinstance(expected, WrittenAnswer) and len(expected.tokens) > 2
        each = "a token" if looks.count > len(expected.tokens) else "a text"
        for queries, last in ((text, looks.count - 1), (read, 1)):
            with pytest.raises(ExaminationStopped):
                next(StoppableRespondent(respondent, Looks(last)).responses(queries))
        found.append((each, dict(respondent.responses(text)) == {0: expected}))
        dissolve_groups()
    return found


def test_an_answer_can_be_interrupted_before_it_is_there() -> None:
    """Catches Ctrl-C that waits for a batch of long texts, and ranks that end apart."""
    assert on_ranks(1, interrupted, [{}]) == [[("a token", True)]]
    # Replicas write at a speed of their own.
    both = [("a token", True), ("a token", True), ("a text", True)]
    assert on_ranks(2, interrupted, [{"tensor": 2}, {"pipeline": 2}, {}]) == [both, both]


def test_every_layout_answers_alike() -> None:
    """Catches an answer that a replica or a stage keeps to itself."""
    layouts: list[dict[str, Any]] = [
        *({"tensor": 2}, {"pipeline": 2}, {}, {"context": 2}),
        {"tensor": 2, "sequence": True},
    ]
    (expected,) = on_ranks(1, respond, QUERIES, [{}])[0]
    assert [type(expected[n]) for n in range(8)] == [Likelihood] * 4 + [WrittenAnswer] * 4
    assert expected[5] != expected[6], "the seed decides a text"
    for answers in on_ranks(2, respond, QUERIES, layouts):
        for found in answers:
            assert found.keys() == expected.keys()
            for number, answer in expected.items():
                assert found[number].nats == pytest.approx(answer.nats, abs=1e-4)
                if isinstance(answer, WrittenAnswer):
                    assert found[number].tokens == answer.tokens
                    assert (found[number].text, found[number].ended) == (answer.text, answer.ended)
                else:
                    assert found[number].greedy == answer.greedy


def test_what_is_refused_has_a_reason_and_loses_no_other() -> None:
    """Catches a query that ends the evaluation, or that is cut without a word."""
    (found,) = on_ranks(1, respond, [*REFUSED, QUERIES[3]], [{}])[0]
    reasons = [found[number].reason for number in range(5)]
    tokens = len(BASE.encode(LONG))
    assert reasons[0] == f"too long: {tokens + len(BASE.start)} tokens before the text, of 127"
    assert reasons[1] == f"too long: {tokens - 1} tokens of 128"
    # By what stands before its colon a reason is counted: "the prompt" would say nothing.
    assert "spells <|im_end|>" in reasons[2] and not reasons[2].startswith("the prompt:")
    assert reasons[3] == "no token is asked for"
    assert reasons[4].startswith(f"token {VOCAB}, ")
    assert isinstance(found[5], Likelihood)


def reasons_under(templates: list[str]) -> list[str]:
    """Why the model cannot be asked under each of these chat templates."""
    recipe = recipe_at()
    layout = create_layout(recipe)
    chunks = build_model(recipe, VOCAB, layout)
    found = []
    for template in templates:
        respondent = ModelRespondent(chunks, recipe, layout, BASE.speaking(template))
        ((_, answer),) = respondent.responses([TextQuery(Prompt("What is red?"))])
        assert isinstance(answer, Unanswered)
        found.append(answer.reason)
    return found


def test_a_template_that_cannot_ask_is_a_reason() -> None:
    """Catches a stack trace for a file's own template, and reasons that say nothing."""
    torn, deaf = on_ranks(1, reasons_under, ["{{ torn", "fixed"])[0]
    assert torn.startswith("the chat template (the tokenizer's template) fails on it, line 1: un")
    kind, _, rest = deaf.partition(": ")
    assert kind == "message 1 (user) cannot be put to the model" and "leaves out" in rest


def test_a_broken_model_answers_nothing() -> None:
    """Catches NaN that becomes a figure, or a drawn token; what does not meet it is answered."""
    queries: list[Query] = [
        *(TextQuery(Prompt("The fox", plain=True), temperature=t, tokens=4) for t in (0.0, 1.0)),
        LikelihoodQuery(Prompt("The fox", plain=True), " is"),
        LikelihoodQuery(Prompt("The oak", plain=True), " is"),
    ]
    (found,) = on_ranks(1, respond, queries, [{}], True)[0]
    for number in range(3):
        assert found[number] == Unanswered("the model's log-probabilities are not finite")
    assert isinstance(found[3], Likelihood | Unanswered)


def test_a_stop_text_ends_an_answer() -> None:
    """Catches a stop that is missed between two tokens, or left standing."""
    (whole,) = on_ranks(1, respond, QUERIES[4:5], [{}])[0]
    text = whole[0].text
    cut = text[len(text) // 2 : len(text) // 2 + 2]
    queries: list[Query] = [TextQuery(Prompt("The red", plain=True), 9, stop=(cut, "no such"))]
    (found,) = on_ranks(1, respond, queries, [{}])[0]
    assert found[0].text == text[: text.index(cut)] and found[0].ended
    assert found[0].nats == pytest.approx(whole[0].nats[: len(found[0].nats)], abs=1e-5)
    assert len(found[0].nats) < 9


def test_a_continuation_goes_on_where_a_template_would_end_a_turn() -> None:
    """Would catch texts of lm-eval's tasks that end where its own model goes on: at a token that
    ends a turn, and that the model's files do not name as an end.
    """
    turn_end = SPEAKING.encode_rendered("<|im_end|>")[0]
    assert turn_end not in SPEAKING.ends
    prompt, even = SPEAKING.encode("The red"), {"tokens": 100, "temperature": 1e4}
    for kind, begins in ((ContinuationQuery, tuple(prompt)), (TextQuery, Prompt("The red", True))):
        asked = [kind(begins, seed=seed, **even) for seed in range(12)]
        (answers,) = on_ranks(1, respond, asked, [{}])[0]
        written = [token for answer in answers.values() for token in answer.tokens]
        assert (turn_end in written) == (kind is ContinuationQuery)
        assert not SPEAKING.ends & set(written)


def test_a_model_without_a_template_gets_questions_as_lines() -> None:
    """Catches a base model asked through a template that it never saw."""
    encoder = PromptEncoder(BASE, recipe_at())
    assert not encoder.chats and PromptEncoder(SPEAKING, recipe_at()).chats
    prompt = Prompt("What is old?", system="Be brief.", shots=SHOTS)
    before, text = encoder.pair(prompt, "The oak")
    asked = (
        "Be brief.\n\nQuestion: What is red?\nAnswer: The fox\n\nQuestion: What is old?\nAnswer:"
    )
    assert before == [*BASE.start, *BASE.encode(asked)] == encoder.ids(prompt)
    assert BASE.decode(text) == " The oak"
    assert encoder.text(prompt, before, text) == "The oak"
    assert encoder.stops(prompt) == ("\nQuestion:",)


def test_a_model_that_can_think_is_asked_to_answer_at_once() -> None:
    """Catches answers of few tokens that hold the beginning of a thought, and are all wrong."""
    thinks = "{% if add_generation_prompt and enable_thinking is defined and not enable_thinking %}"
    thinker = BASE.speaking(CHATML + thinks + "<think>\n\n</think>\n\n{% endif %}")
    recipe = recipe_at()
    prompt = Prompt("What is red?")
    assert BASE.decode(PromptEncoder(thinker, recipe).ids(prompt)).endswith("</think>\n\n")
    keys = recipe.model_dump(mode="json")
    keys["conversations"]["template_variables"] = {"enable_thinking": True}
    told = PromptEncoder(thinker, Recipe.from_keys(keys)).ids(prompt)
    assert told == PromptEncoder(SPEAKING, recipe).ids(prompt)


def test_plain_text_is_parted_where_the_prompt_ends() -> None:
    """Catches a space that both sides have, and a border inside a token that is moved."""
    encoder = PromptEncoder(SPEAKING, recipe_at())
    spaced = encoder.pair(Prompt("The red ", plain=True), "fox")
    assert spaced == encoder.pair(Prompt("The red", plain=True), " fox")
    assert spaced[0] == [*BASE.start, *BASE.encode("The red")]
    assert BASE.decode(spaced[1]) == " fox"
    assert encoder.pair(Prompt("", plain=True), "fox")[0] == list(BASE.start)
