"""Answers that are the beginning of one: their ends are not learnt."""

from pathlib import Path
from typing import Any

import pytest

from tests.conversations.talks import HEADERS, INST, LLAMA, TRAINED, mark, marked, parse, speaking
from trainer.conversations.template import ChatTemplate
from trainer.conversations.turns import Conversation
from trainer.data.token_flags import ID_MASK
from trainer.errors import DataError

CHATML = ChatTemplate(TRAINED)


def begun(record: dict[str, Any]) -> Conversation:
    """The record's, whose last answer is the beginning of one."""
    return parse({**record, "continue_final_message": True})


ASKED = {"messages": [{"role": "user", "content": "Hi"}]}
SAID = {"role": "assistant", "content": "First."}


def test_the_end_of_an_answer_that_goes_on_is_not_there(tmp_path: Path) -> None:
    """Would catch a model that learns to stop where a text of its own was cut."""
    again = [{"role": "user", "content": "Two?"}, {"role": "assistant", "content": "Second."}]
    two = {"messages": [*ASKED["messages"], SAID, *again]}
    whole = marked(parse(two), CHATML)
    assert marked(begun(two), CHATML) == [*whole[:3], ("Second.", True)]
    assert marked(parse({**two, "continue_final_message": False}), CHATML) == whole
    one = {"messages": [*ASKED["messages"], SAID]}
    for name, text in (("headers", HEADERS), ("inst", INST)):
        (tmp_path / name).mkdir()
        template = speaking(tmp_path / name, text, LLAMA)
        asked, (answer, _), *_ = marked(parse(one), template)
        assert answer != "First.", "negative control"
        assert marked(begun(one), template) == [asked, (answer[: answer.index(".") + 1], True)]
    bare = {"prompt": "Once", "completion": " upon"}
    ends = [mark(read(bare), CHATML)[-1] & ID_MASK for read in (parse, begun)]
    assert ends[0] == TRAINED.end_of_text != ends[1]


def test_an_answer_that_is_only_seen_leaves_the_one_before_it_its_end() -> None:
    """Would catch an earlier answer's end lost, which the model did write."""
    seen = {"role": "assistant", "content": "Second.", "weight": 0}
    record = {"messages": [*ASKED["messages"], SAID, {"role": "user", "content": "Two?"}, seen]}
    assert marked(begun(record), CHATML) == marked(parse(record), CHATML)
    assert parse(record).identity != begun(record).identity


def test_what_cannot_go_on_is_refused() -> None:
    """Would catch an answer without its end because a question behind it has no answer."""
    unanswered = {"messages": [*ASKED["messages"], SAID, {"role": "user", "content": "Two?"}]}
    with pytest.raises(DataError, match='"continue_final_message": the last turn is no answer'):
        begun(unanswered)
    with pytest.raises(DataError, match='"continue_final_message" is neither true nor false'):
        parse({"messages": [*ASKED["messages"], SAID], "continue_final_message": "yes"})
