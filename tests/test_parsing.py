"""What is wrong with a text of YAML or JSON is one line: what, where, the mend."""

import errno
import json
from pathlib import Path

import pytest

from trainer.cli import main
from trainer.errors import CheckpointError, DataError, LyceumError, RecipeError
from trainer.files import path_fault
from trainer.hugging_face.config import describe
from trainer.parsing import YamlFault, read_json, read_yaml
from trainer.recipe import reading

# Put together here: as files they would be too much for other readers of YAML.
LAUGHS = "a: &a [1, 1]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(8)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, r"line \d+, aliases make more than 1,000,000 values of it"),
        ("a: &a [*a]", "line 1, an alias stands for what it stands in"),
        ("a: &a {b: *a}", "line 1, an alias stands for what it stands in"),
        ("a: *b", "line 1, found undefined alias 'b'"),
        ('a: 1\nb: !!int ""', "line 2, '' is no int"),
        ('a: !!float ""', "line 1, '' is no float"),
        ('a: !!bool "x"', "line 1, 'x' is no bool"),
        ('a: !!timestamp ""', "line 1, '' is no timestamp"),
        ("a: 2026-13-45", "line 1, '2026-13-45' is no timestamp"),
        ("a: !!int 0x", "line 1, '0x' is no int"),
        (f"a: 0x{'f' * 5000}", "line 1, a number of 5,002 digits is too long"),
        (f"a: {'9' * 5000}", "line 1, a number of 5,000 digits is too long"),
        (f"a: 1{':59' * 3000}", "line 1, a number of 9,001 digits is too long"),
        ("a: !!python/name:os.system", "line 1, could not determine a constructor"),
        ("a: 1\na: 2", "line 2, key 'a' stands twice"),
        ("<<: 3", "line 1, expected a mapping or list of mappings"),
        ("? [1]\n: 2", "line 1, found unhashable key"),
        ("[" * 30_000, "too deep in one another"),
        ("a: 'b", "line 1, found unexpected end of stream"),
        ("a: \x00", "special characters are not allowed"),
        ("x" * (9 << 20), "more than 8,388,608 characters"),
    ],
)
def test_bad_yaml_is_one_line(text: str, said: str) -> None:
    """Would catch a stack trace, a hang, or a memory that is filled by a few lines."""
    with pytest.raises(YamlFault, match=said):
        read_yaml(text)
    with pytest.raises(RecipeError, match=rf"^mine\.yaml: not YAML: .*{said}") as caught:
        reading.parse(text, "mine.yaml")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_good_yaml_is_what_it_was() -> None:
    """Negative control: aliases, merges and explicit tags that fit stay."""
    text = 'a: &a {b: 1e-3, c: [0x1f, !!int "7"]}\nd: *a\ne: {<<: *a, b: 2026-01-02}\nf: 1_000'
    found = read_yaml(text)
    assert found["d"] == found["a"] == {"b": 0.001, "c": [31, 7]}
    assert found["e"]["c"] == [31, 7] and found["f"] == 1000 and read_yaml("") is None
    assert read_yaml("&a " * 1 + "[1]") == [1]


def test_an_override_is_as_careful() -> None:
    """Would catch the command line read by another door."""
    for value in ('!!int ""', f"0x{'f' * 5000}", "[" * 30_000, "&a [*a]"):
        with pytest.raises(RecipeError, match="the value is not YAML") as caught:
            reading.override({}, f"model.layers={value}")
        assert len(str(caught.value)) < 300
    with pytest.raises(RecipeError):
        reading.override({}, "a=[" + "b{0..1}c, " * 400)  # each word is read anew, up to a bound


def test_json_too_deep_is_a_fault_of_the_file(tmp_path: Path) -> None:
    """Would catch RecursionError out of a config.json, a manifest or a tokenizer."""
    deep = "[" * 100_000
    with pytest.raises(ValueError, match="too deep"):
        read_json(deep)
    with pytest.raises(CheckpointError, match=r"config\.json is damaged: brackets stand too deep"):
        describe(deep.encode(), "config.json")
    (tmp_path / "manifest.json").write_text(deep)
    assert main(["corpus", "verify", str(tmp_path)]) == DataError.exit_code
    assert read_json(json.dumps({"a": [1]})) == {"a": [1]}


@pytest.mark.parametrize(
    "words",
    [
        ["corpus", "verify", "a" * 300],
        ["corpus", "inspect", "a/" * 3000],
        ["checkpoint", "verify", "b" * 300],
        ["checkpoint", "ls", "b" * 300],
        ["train", "c" * 300, "--show"],
        ["train", "tiny", f"init_from={'d' * 300}", "--show"],
        ["train", "tiny", f"run={'d' * 300}", "steps=1"],
        ["train", "tiny", f"data.mixture=[{{corpus: {'d' * 300}}}]", "--show"],
        ["train", "tiny", 'run="a\\0b"', "--show"],
        ["train", "tiny", 'data.mixture=[{corpus: "a\\0b"}]', "--show"],
        ["report", "e" * 300],
        ["compare", "e" * 300, "f" * 300],
        ["corpus", "trace", "e" * 300, "1"],
        ["evaluate", "e" * 300],
        ["import", "g" * 300, "h"],
        ["export", "g" * 300, "h"],
        ["generate", "g" * 300, "--prompt", "a"],
        ["checkpoint", "diff", "g" * 300, "h" * 300],
    ],
)
def test_a_path_that_cannot_be_is_one_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: object
) -> None:
    """Would catch a stack trace over a name of 300 letters, or one that holds a zero byte."""
    monkeypatch.chdir(tmp_path)
    assert main(words) in (RecipeError.exit_code, DataError.exit_code)
    said = capfd.readouterr().err  # type: ignore[attr-defined]
    assert said.startswith("lyceum: error: ") and said.count("\n") == 1 and "Traceback" not in said


def test_only_what_a_user_can_mend_is_a_fault_of_the_path() -> None:
    """Would catch a bug of ours shown as a user's: an error without a file, or of another kind."""
    named = OSError(errno.ENAMETOOLONG, "File name too long", "a" * 400)
    line = str(path_fault(named))
    assert line.endswith("File name too long; give another path") and len(line) < 200
    assert isinstance(path_fault(named), LyceumError)
    assert path_fault(OSError(errno.ENAMETOOLONG, "File name too long")) is None
    assert path_fault(OSError(errno.EBADF, "Bad file descriptor", "a")) is None
    assert path_fault(KeyError("a")) is None
