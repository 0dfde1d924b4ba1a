"""What `lyceum generate` reads from a file: lines, prompts and messages."""

from pathlib import Path

import pytest

from trainer.conversations.turns import Message
from trainer.errors import DataError, RecipeError
from trainer.evaluate.requests import read_prompts, read_records

NOT_LINE_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\r"


def prompts(tmp_path: Path, raw: bytes) -> list[tuple[str | None, str]]:
    file = tmp_path / "prompts.txt"
    file.write_bytes(raw)
    return [(request.text, str(request.place)) for request in read_prompts(file)]


@pytest.mark.parametrize("character", NOT_LINE_ENDS, ids=ascii)
def test_a_line_ends_at_lf_or_crlf_alone(character: str, tmp_path: Path) -> None:
    """Catches str.splitlines, which splits at eight more characters that a prompt may hold."""
    whole = f"One{character}prompt"
    found = [text for text, _ in prompts(tmp_path, f"{whole}\r\n{whole}\n{whole}".encode())]
    assert found == [whole] * 3


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
    ],
)
def test_files_that_hold_no_prompt_are_refused(raw: bytes, problem: str, tmp_path: Path) -> None:
    """Catches a generation from nothing, or from half characters."""
    with pytest.raises(RecipeError, match=problem):
        prompts(tmp_path, raw)


def test_records_keep_line_breaks_and_messages(tmp_path: Path) -> None:
    """Catches a prompt cut at its line break, a lost tool, and a record that loses its own keys."""
    file = tmp_path / "asked.jsonl"
    file.write_text(
        '{"prompt": "two\\nlines\u2028end", "id": 7}\r\n\n'
        '{"system": "Be short.", "messages": [{"role": "user", "content": "Hi"}],'
        ' "tools": [{"name": "clock"}]}\n'
        '{"conversations": [{"from": "human", "value": "Hi"}]}\n'
        '{"prompt": [{"role": "user", "content": "Hi"}]}',
        encoding="utf-8",
    )
    text, messages, *others = read_records(file)
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
    file.write_text(f'{{"prompt": "a"}}\n\n{line}\n', encoding="utf-8")
    with pytest.raises(DataError, match=problem) as error:
        read_records(file)
    assert str(error.value).startswith(f"{file} line 3: ")
    assert "\n" not in str(error.value)
