"""Documents of the embedded corpus and of text files, and what is dropped on the way."""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.data.docstrings import parse_file, read_docstrings
from trainer.data.documents import Document, Ledger, read_text_files, text_files
from trainer.data.duplicates import remove_duplicates
from trainer.data.packages import SourceFile, resolve_packages, source_files
from trainer.errors import DataError, RecipeError

LONG = "Words that make the text long enough to be kept, and then some more of them."


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package whose import would fail loudly."""
    folder = tmp_path / "site" / "bird"
    (folder / "tests").mkdir(parents=True)
    (folder / "not-a-name").mkdir()
    source = f'''
        """A package. {LONG}"""
        import sys
        raise SystemExit("this package was imported")

        if sys.platform == "win32":
            def fly(height, /, speed: int = 3, *wings: str, loud=True, **rest) -> None:
                """Fly. {LONG}"""
        else:
            def fly(height):
                """Fly elsewhere. {LONG}"""

        class Nest:
            """A nest. {LONG}

            Then:
                indented
            """
            def lay(self, eggs={{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7}}):
                """Lay. {LONG}"""
                def inner():
                    """Inner. {LONG}"""
        async def sing(*, tune):
            """Short."""
        try:
            import nothing
        except ImportError:
            async def hop():
                """Hop. {LONG}"""
    '''
    (folder / "__init__.py").write_text(textwrap.dedent(source))
    (folder / "broken.py").write_text("def (:\n")
    (folder / "nul.py").write_bytes(b"x = 1\0\n")
    (folder / "latin.py").write_bytes(
        b'# -*- coding: latin-1 -*-\n"""caf\xe9 ' + LONG.encode() + b'"""'
    )
    (folder / "surrogate.py").write_text(f'"""\\ud800 {LONG}"""')
    (folder / "tests" / "__init__.py").write_text(f'"""A test. {LONG}"""')
    (folder / "not-a-name" / "module.py").write_text(f'"""Nowhere. {LONG}"""')
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield folder


def read_package(workers: int = 1) -> tuple[list[Document], Ledger]:
    ledger = Ledger()
    files = source_files(resolve_packages(["bird"]))
    return list(read_docstrings(files, 60, workers, ledger)), ledger


def test_docstrings_carry_their_real_dotted_names_and_nothing_is_imported(package: Path) -> None:
    """Would catch an import of the package, test folders, and names that no dotted path reaches."""
    documents, _ = read_package()
    assert [document.id for document in documents] == [
        "bird",
        "bird.fly",
        "bird.Nest",
        "bird.Nest.lay",
        "bird.hop",
    ]
    assert {document.source for document in documents} == {"bird"}


def test_a_document_begins_with_name_and_signature_and_the_docstring_is_clean(
    package: Path,
) -> None:
    """Would catch annotations, self, unreadable defaults, or indentation left in the text."""
    texts = {document.id: document.text for document in read_package()[0]}
    assert texts["bird.fly"] == (
        f"bird.fly(height, /, speed=3, *wings, loud=True, **rest)\n\nFly. {LONG}"
    )
    assert texts["bird.Nest"] == f"bird.Nest\n\nA nest. {LONG}\n\nThen:\n    indented"
    assert texts["bird.Nest.lay"].startswith("bird.Nest.lay(eggs=...)\n\nLay.")
    assert texts["bird.hop"].startswith("bird.hop()\n\n")


def test_what_is_dropped_is_counted_by_rule_with_examples(package: Path) -> None:
    """Would catch a file or docstring that vanishes without a trace."""
    _, ledger = read_package()
    assert ledger.dropped == {
        "repeated name": 1,
        "file with a syntax error": 2,
        "file not UTF-8": 1,
        "not Unicode": 1,
        "too short": 1,
    }
    assert ledger.examples["too short"] == [{"id": "bird.sing", "characters": 6}]
    assert ledger.examples["file not UTF-8"] == [{"id": "bird.latin"}]


def test_documents_do_not_depend_on_the_number_of_processes() -> None:
    """Would catch results taken in the order in which processes finish."""
    files = source_files(["stdlib"])[::16]
    alone, together = Ledger(), Ledger()
    expected = list(read_docstrings(files, 200, 1, alone))
    assert list(read_docstrings(files, 200, 2, together)) == expected
    assert together.summary() == alone.summary()
    assert len(expected) > 50


def test_a_module_missing_on_disk_is_one_line_from_a_worker_process_too(tmp_path: Path) -> None:
    """Would catch a worker's error lost, or a wait for ever for its result."""
    files = [SourceFile("gone", f"gone{n}", str(tmp_path / f"{n}.py"), 10**6) for n in range(2)]
    for workers in (1, 2):
        with pytest.raises(DataError, match=r"cannot read .*0\.py"):
            list(read_docstrings(files, 200, workers, Ledger()))


def test_the_topics_of_the_language_reference_are_read_without_import() -> None:
    """Would catch a change of the form of pydoc_data.topics that leaves the corpus without it."""
    ledger = Ledger()
    (file,) = source_files(["topics"])
    documents = parse_file(file, 200, ledger)
    names = [document.id for document in documents]
    assert len(documents) > 50 and "pydoc_data.topics.assert" in names
    assert "AssertionError" in documents[names.index("pydoc_data.topics.assert")].text


@pytest.mark.parametrize("name", ["no_such_package", "no-such.name", "sys", ""])
def test_a_package_without_sources_is_a_recipe_error_that_names_it(name: str) -> None:
    """Would catch a typing mistake in corpus.packages that gives a smaller corpus in silence."""
    with pytest.raises(RecipeError, match=r"corpus\.packages") as caught:
        resolve_packages(["stdlib", name])
    assert repr(name) in str(caught.value) and "\n" not in str(caught.value)


def test_all_takes_what_is_installed_but_not_this_project() -> None:
    """Would catch a corpus that changes with every commit of ours."""
    names = resolve_packages(["all"])
    assert {"stdlib", "topics", "numpy", "pytest"} <= set(names)
    assert not {"trainer", "kernels", "launch"} & set(names)


def body(words: int, changed: tuple[int, ...] = (), name: str = "") -> str:
    return " ".join(f"other{n}{name}" if n in changed else f"word{n}{name}" for n in range(words))


def test_near_duplicates_go_and_the_first_stays() -> None:
    """Would catch keep-last, a dropped original, or removal of what is only similar in part."""
    documents = [
        Document("one", "s", "one()\n\n" + body(100), 7),
        Document("other", "s", body(100, name="x")),
        Document("same under another name", "s", "elsewhere()\n\n" + body(100), 13),
        Document("nearly the same", "s", body(100, changed=(50,))),
        Document("same but for spaces", "s", body(100).replace(" ", "\n  ")),
        Document("half the same", "s", body(100, changed=tuple(range(50)))),
    ]
    ledger = Ledger()
    kept = [document.id for document in remove_duplicates(documents, 0.8, 0, ledger)]
    assert kept == ["one", "other", "half the same"]
    assert ledger.dropped == {"duplicate": 2, "near duplicate": 1}
    (example,) = ledger.examples["near duplicate"]
    assert (example["id"], example["kept"]) == ("nearly the same", "one")
    assert 0.8 <= example["similarity"] < 1


def test_a_higher_threshold_keeps_what_a_lower_one_drops() -> None:
    """The negative control: a threshold that were ignored would drop or keep both times."""
    pair = [Document("a", "s", body(100)), Document("b", "s", body(100, changed=(20, 40, 60, 80)))]
    assert len(list(remove_duplicates(pair, 0.5, 0, Ledger()))) == 1
    assert len(list(remove_duplicates(pair, 0.99, 0, Ledger()))) == 2


def test_text_files_give_a_document_a_file_and_jsonl_one_a_line(tmp_path: Path) -> None:
    """Would catch lost lines, a byte-order mark in the text, or order that depends on the disk."""
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfsecond text")
    (tmp_path / "a.md").write_text("first text")
    records = [{"id": "x", "text": "third text"}, {"text": "fourth text"}, {"text": " "}]
    lines = [json.dumps(record) for record in records]
    (tmp_path / "c.jsonl").write_text("\n".join([lines[0], "", *lines[1:]]))
    ledger = Ledger()
    paths = text_files([str(tmp_path / "*"), str(tmp_path / "a.md")])
    documents = list(read_text_files(paths, 0, ledger))
    assert [document.text for document in documents] == [
        "first text",
        "second text",
        "third text",
        "fourth text",
    ]
    assert [document.id for document in documents[2:]] == ["x", f"{tmp_path}/c.jsonl:3"]
    assert ledger.dropped == {"too short": 1}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"good \xff bad", r"a\.txt is not UTF-8: byte 0xff at offset 5"),
        ("a.txt", b"\xef\xbb\xbfab\xff", r"a\.txt is not UTF-8: byte 0xff at offset 5"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xe9"}', r"a\.jsonl is not UTF-8: .* offset 24"),
        ("a.jsonl", b'{"text": "x"}\n{oops', r"a\.jsonl line 2 is not JSON"),
        ("a.jsonl", b'["text"]', r'a\.jsonl line 1 has no "text" string'),
        ("a.jsonl", b'{"text": "\\ud800"}', r"a\.jsonl line 1 holds a lone surrogate"),
    ],
)
def test_bad_text_is_one_line_with_its_place(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """Would catch a stack trace, a wrong offset, or bad bytes replaced in silence."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        list(read_text_files(text_files([str(tmp_path / name)]), 0, Ledger()))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("none*.txt", "names no file"),
        (".", "is a folder"),
        ("a.pdf", r"is not one of \.txt"),
        ("b*", "leads to no file"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, pattern: str, message: str) -> None:
    """Would catch a pattern that matches nothing and is passed over."""
    (tmp_path / "a.pdf").write_text("x")
    (tmp_path / "b.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(DataError, match=message):
        text_files([str(tmp_path / pattern)])
