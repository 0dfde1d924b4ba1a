"""What `lyceum generate` reads from a file: lines, prompts and messages."""

import os
from pathlib import Path

import pytest

from trainer.conversations.turns import Message
from trainer.errors import DataError, RecipeError
from trainer.evaluate.requests import is_read_once, prompts_in, records_in

NOT_LINE_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\r"


def prompts(tmp_path: Path, raw: bytes) -> list[tuple[str | None, str]]:
    file = tmp_path / "prompts.txt"
    return [(request.text, str(request.place)) for request in prompts_in(raw, file)]


@pytest.mark.parametrize("character", NOT_LINE_ENDS, ids=ascii)
def test_a_line_ends_at_lf_or_crlf_alone(character: str, tmp_path: Path) -> None:
    """Catches str.splitlines, which splits at eight more characters that a prompt may hold."""
    whole = f"One{character}prompt"
    found = [text for text, _ in prompts(tmp_path, f"{whole}\r\n{whole}\n{whole}".encode())]
    assert found == [whole] * 3
    raw = f"one{character}\n{character}two{character}".encode()
    if character != "\r":
        assert prompts(tmp_path, raw)[0][0] == f"one{character}"
    assert prompts(tmp_path, raw)[1][0] == f"{character}two{character}", "the last line's too"


def test_blank_lines_and_marks_are_no_prompts_and_numbers_stay(tmp_path: Path) -> None:
    """Catches a byte order mark in the first prompt, an empty prompt, and numbers of prompts."""
    found = prompts(tmp_path, b"\xef\xbb\xbf\n first \n \t\r\n\nfourth\n\n")
    file = tmp_path / "prompts.txt"
    assert found == [(" first ", f"{file} line 2"), ("fourth", f"{file} line 5")]


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "holds no prompt; write one a line"),
        (b"\xef\xbb\xbf\n \r\n", "holds no prompt"),
        (b"\xef\xbb\xbfcaf\xe9", r"not UTF-8 text \(byte 6\)"),
        ("A river".encode("utf-16"), "is UTF-16, not UTF-8: convert it"),
        ("A river".encode("utf-16-be"), "is UTF-16, not UTF-8: convert it"),
    ],
)
def test_files_that_hold_no_prompt_are_refused(raw: bytes, problem: str, tmp_path: Path) -> None:
    """Catches a generation from nothing, or from half characters."""
    with pytest.raises(RecipeError, match=problem):
        prompts(tmp_path, raw)


def test_records_keep_line_breaks_and_messages(tmp_path: Path) -> None:
    """Catches a prompt cut at its line break, a lost tool, and a record that loses its own keys."""
    file = tmp_path / "asked.jsonl"
    raw = (
        '{"prompt": "two\\nlines\u2028end", "id": 7}\r\n\n'
        '{"system": "Be short.", "messages": [{"role": "user", "content": "Hi"}],'
        ' "tools": [{"name": "clock"}]}\n'
        '{"conversations": [{"from": "human", "value": "Hi"}]}\n'
        '{"prompt": [{"role": "user", "content": "Hi"}]}'
    )
    text, messages, *others = records_in(raw.encode(), file)
    assert (text.text, text.record) == (
        "two\nlines\u2028end",
        {"prompt": "two\nlines\u2028end", "id": 7},
    )
    assert messages.text is None
    assert messages.conversation is not None
    assert messages.conversation.messages == (Message("system", "Be short."), Message("user", "Hi"))
    assert messages.conversation.tools == ({"name": "clock"},)
    assert str(messages.place) == f"{file} line 3"
    asked = [other.conversation.messages for other in others if other.conversation is not None]
    assert asked == [(Message("user", "Hi"),)] * 2


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("a river", "not JSON"),
        ('["a"]', "not a JSON object"),
        ('{"text": "a"}', "has the fields text: give prompt, or messages"),
        ('{"prompt": "a", "messages": []}', "has both prompt and messages"),
        ('{"prompt": 7}', '"prompt" is no list of turns'),
        ('{"prompt": ["a", "b", "c"]}', "its prompt is a list of texts: give each its own line"),
        ('{"messages": []}', '"messages" is empty'),
        ('{"messages": [{"role": "narrator", "content": "a"}]}', "turn 1: unknown role 'narrator'"),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', "ends with the assistant's turn"),
        ('{"messages": [{"role": "system", "content": ""}]}', "ends with the system's turn"),
        ('{"prompt": "\\ud800"}', "lone surrogate"),
        ('{"prompt": "a", "generated": "b"}', 'has "generated", where the answer goes'),
    ],
)
def test_bad_records_are_named_by_file_and_line(line: str, problem: str, tmp_path: Path) -> None:
    """Catches a stack trace, a number that does not count blank lines, and a guess."""
    file = tmp_path / "asked.jsonl"
    raw = f'{{"prompt": "a"}}\n\n{line}\n'.encode()
    with pytest.raises(DataError, match=problem) as error:
        records_in(raw, file)
    assert str(error.value).startswith(f"{file} line 3: ")
    assert "\n" not in str(error.value)


def test_a_prompt_beside_what_only_a_template_reads_is_a_turn(tmp_path: Path) -> None:
    """Catches a system prompt or tools that are passed over, and keys that nobody is told of."""
    lines = [
        '{"prompt": "Hi", "system": "Be short."}',
        '{"prompt": "Hi", "tools": [{"name": "clock"}], "id": 7}',
        '{"prompt": "Hi", "system": "", "tools": [], "id": 7}',
        '{"messages": [{"role": "system", "content": "A"}, {"role": "user", "content": "Hi"}],'
        ' "system": "B"}',
    ]
    asked = records_in("\n".join(lines).encode(), tmp_path / "asked.jsonl")
    user = Message("user", "Hi")
    assert asked[0].conversation is not None and asked[1].conversation is not None
    assert asked[0].conversation.messages == (Message("system", "Be short."), user)
    assert (asked[1].conversation.messages, asked[1].conversation.tools) == (
        (user,),
        ({"name": "clock"},),
    )
    assert (asked[2].text, asked[2].conversation) == ("Hi", None)
    assert [one.unread for one in asked] == [(), ("id",), ("id",), ("system",)]


def test_what_can_be_read_once_is_known(tmp_path: Path) -> None:
    """Catches ranks that share a pipe, of which all but one find nothing."""
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    names = ("file", "pipe", "absent", ".")
    assert [is_read_once(tmp_path / name) for name in names] == [False, True, False, False]


def test_null_characters_are_text(tmp_path: Path) -> None:
    """Catches a few of them that are taken for UTF-16."""
    assert [text for text, _ in prompts(tmp_path, b"A\0b\nC\x1a\n\0\n")] == ["A\0b", "C\x1a", "\0"]
