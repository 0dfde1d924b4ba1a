"""Damage to a file, drawn by dice: to its bytes, its words, or its JSON."""

import json
import random
from collections.abc import Callable
from typing import Any

STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 2**64, 10**30, 0.5, -0.0, 1e308),
    *(float("inf"), float("nan"), "", "x", "\0", "../x", "/", "é", "\ud800", "a" * 5000),
    *([], {}, [[]], [None], {"": None}, "1", "-1", "1e999", "{", "%s", "::", "{0..9}"),
)
WORDS: tuple[bytes, ...] = (
    *(
        b"",
        b"0",
        b"-1",
        b"1e999",
        b"99999999999999999999",
        b"nan",
        b"null",
        b"~",
        b"true",
        b"!!int",
    ),
    *(b'!!float ""', b"!!timestamp x", b"&a", b"*a", b"<<: *a", b"? ", b"- ", b": ", b"|", b">"),
    *(b"[", b"]", b"{", b"}", b'"', b"'", b"\\", b"#", b"%", b"\t", b"\r\n", b"\0", b"\xff\xfe"),
    *(b"\xef\xbb\xbf", b"\xf0\x9f\x98\x80", b"../", b"::", b"{000..003}", b"a" * 300, b"[" * 2000),
    *(b"{{", b"{%", b"%}", b"}}", b"{% for a in range(99) %}", b"| join", b"~", b".format("),
)
Damage = Callable[[bytes, random.Random], bytes]


def damaged(content: bytes, dice: random.Random) -> bytes:
    """The content after one to four damages; the same dice give the same."""
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        content = dice.choice(_DAMAGES)(content, dice)
    return content


def _flipped(content: bytes, dice: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(dice.choice((1, 1, 4, 16))):
        if changed:
            changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _cut(content: bytes, dice: random.Random) -> bytes:
    return content[: dice.randrange(len(content) + 1)]


def _without(content: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(content) + 1)
    return content[:start] + content[start + dice.choice((1, 3, 20, 512)) :]


def _twice(content: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(content) + 1)
    part = content[start : start + dice.choice((1, 10, 200, 1024))]
    return content[:start] + part * dice.choice((2, 2, 20)) + content[start:]


def _with_word(content: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(content) + 1)
    length = dice.choice((0, 0, 1, 4))
    return content[:start] + dice.choice(WORDS) + content[start + length :]


def _other_number(content: bytes, dice: random.Random) -> bytes:
    """One run of digits becomes another number."""
    places = [n for n, one in enumerate(content[:100_000]) if 48 <= one <= 57]
    if not places:
        return _with_word(content, dice)
    start = dice.choice(places)
    end = start
    while end < len(content) and 48 <= content[end] <= 57:
        end += 1
    number = dice.choice((b"0", b"-1", b"1", b"7777777", b"1e400", b"9" * 25, b"0x" + b"f" * 50))
    return content[:start] + number + content[end:]


def _lines(content: bytes, dice: random.Random) -> bytes:
    """Lines lost, doubled or in another order."""
    lines = content.split(b"\n")
    kind = dice.randrange(3)
    place = dice.randrange(len(lines))
    if kind == 0:
        del lines[place]
    elif kind == 1:
        lines.insert(dice.randrange(len(lines) + 1), lines[place])
    else:
        lines[place] = b" " * dice.randrange(9) + lines[place].lstrip()
    return b"\n".join(lines)


def _json(content: bytes, dice: random.Random) -> bytes:
    """A value of a JSON text, or of one line of it, becomes a strange one; others are flipped."""
    lines = content.split(b"\n")
    place = dice.randrange(len(lines))
    for text in (content, lines[place]):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue
        made = json.dumps(strange(value, dice)).encode("utf-8", "surrogatepass")
        return made if text is content else b"\n".join([*lines[:place], made, *lines[place + 1 :]])
    return _flipped(content, dice)


def strange(value: Any, dice: random.Random) -> Any:
    """A JSON value of which one part is another, missing, or renamed."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        key = dice.choice(sorted(value))
        kind = dice.randrange(8)
        rest = {name: held for name, held in value.items() if name != key}
        if kind == 0:
            return rest
        if kind == 1:
            return rest | {dice.choice(("", "x", key + "s", key.upper())): value[key]}
        return value | {key: strange(value[key], dice)}
    if isinstance(value, list) and value and dice.random() < 0.9:
        place = dice.randrange(len(value))
        kind = dice.randrange(6)
        if kind == 0:
            return value[:place] + value[place + 1 :]
        if kind == 1:
            return [*value[:place], *[value[place]] * 3, *value[place + 1 :]]
        return [*value[:place], strange(value[place], dice), *value[place + 1 :]]
    return dice.choice(STRANGE)


_DAMAGES: tuple[Damage, ...] = (
    *(_flipped, _cut, _without, _twice, _with_word, _with_word),
    *(_other_number, _other_number, _lines, _json, _json, _json),
)
