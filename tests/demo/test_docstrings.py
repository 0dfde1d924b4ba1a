"""Documents of the embedded corpus, and what is left out on the way."""

import hashlib
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.corpus.build.staged import Staged
from trainer.demo.docstrings import LeftOut, read_docstrings
from trainer.demo.packages import SourceFile, resolve_packages, source_files
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


def read_package() -> tuple[list[Staged], list[LeftOut]]:
    left_out: list[LeftOut] = []
    files = source_files(resolve_packages(["bird"]))
    return list(read_docstrings(files, left_out)), left_out


def test_docstrings_carry_their_real_dotted_names_and_nothing_is_imported(package: Path) -> None:
    """Would catch an import of the package, test folders, and names that no dotted path reaches."""
    documents, _ = read_package()
    assert [document.id for document in documents] == [
        "bird",
        "bird.fly",
        "bird.Nest",
        "bird.Nest.lay",
        "bird.sing",
        "bird.hop",
    ]
    assert {document.source for document in documents} == {"bird"}


def test_a_document_begins_with_name_and_signature_and_the_docstring_is_clean(
    package: Path,
) -> None:
    """Would catch annotations, self, unreadable defaults, or indentation left in the text."""
    texts = {document.id: document.whole for document in read_package()[0]}
    assert texts["bird.fly"] == (
        f"bird.fly(height, /, speed=3, *wings, loud=True, **rest)\n\nFly. {LONG}"
    )
    assert texts["bird.Nest"] == f"bird.Nest\n\nA nest. {LONG}\n\nThen:\n    indented"
    assert texts["bird.Nest.lay"].startswith("bird.Nest.lay(eggs=...)\n\nLay.")
    assert texts["bird.hop"].startswith("bird.hop()\n\n")


def test_what_is_left_out_is_counted_by_reason(package: Path) -> None:
    """Would catch a file or docstring that vanishes without a trace."""
    _, left_out = read_package()
    assert Counter(row.reason for row in left_out) == {
        "repeated name": 1,
        "file with a syntax error": 2,
        "file not UTF-8": 1,
        "not Unicode": 1,
    }
    (repeated,) = (row for row in left_out if row.reason == "repeated name")
    text = f"Fly elsewhere. {LONG}".encode()
    assert repeated == LeftOut(
        "bird.fly", "bird", "repeated name", hashlib.sha256(text).hexdigest(), len(text)
    )
    assert len(source_files(["bird"])) == 5


def test_a_module_missing_on_disk_is_one_line(tmp_path: Path) -> None:
    """Would catch a stack trace for a package that was removed meanwhile."""
    file = SourceFile("gone", "gone", str(tmp_path / "gone.py"), 10)
    with pytest.raises(DataError, match=r"cannot read .*gone\.py"):
        list(read_docstrings([file]))


def test_the_topics_of_the_language_reference_are_read_without_import() -> None:
    """Would catch a change of the form of pydoc_data.topics that leaves the corpus without it."""
    documents = list(read_docstrings(source_files(["topics"])))
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
