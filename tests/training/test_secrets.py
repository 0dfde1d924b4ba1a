"""Addresses with a password or a signature: read with them, and written down without."""

import gzip
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.corpus.reading.tars import texts_tar
from tests.data.remote.servers import web_server
from tests.parity.ranks import on_ranks
from tests.training.runs import WORDS, losses, recipe_of, train_here, write_text
from trainer.corpus.inspect.contents import inspect_corpus, write_extras
from trainer.data.tokenizer import train_tokenizer
from trainer.errors import DataError
from trainer.recipe import Recipe, learning_changes
from trainer.report.command import report_command
from trainer.sources import build_from_recipe, corpus_folders
from trainer.trace import trace_command

SECRET = b"S3CRET"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path / "cache"))


def holding(folder: Path) -> list[str]:
    """The files below a folder that hold the secret, in their bytes or unpacked, or in a name."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                content = b"".join(map(archive.read, archive.namelist()))
        if SECRET in content or SECRET.decode() in path.name:
            found.append(str(path.relative_to(folder)))
    return found


def signed(url: str, number: int = 1) -> str:
    user = url.replace("://", f"://me:S3CRET{number}@")
    return f"{user}?X-Amz-Signature=S3CRET{number}&expires={number}"


def built_run(run: Path, url: str, served: Path, **keys: Any) -> Recipe:
    shards = run.parent / "built"
    own = {"corpus__files": [url], "corpus__path": str(shards), "model__layers": 1}
    return recipe_of(run, served, steps=3, checkpoint__every=2, **own, **keys)


def test_a_run_from_a_signed_address_goes_on_with_another_signature(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Would catch a secret in a corpus, its card or audit, a run, a checkpoint or the report; and
    a signature that has ended, which a resume would need.
    """
    served = tmp_path / "served"
    served.mkdir()
    write_text(served)
    (served / "bad.jsonl").write_text('{"text": 3}\n' + '{"text": "one more text"}\n' * 30)
    out = tmp_path / "out"
    out.mkdir()
    with web_server(served) as server:
        limits = {"corpus__limits__malformed": 0.2}
        first = built_run(out / "run", signed(f"{server.url}/text.jsonl"), served, **limits)
        files = [signed(f"{server.url}/{name}.jsonl") for name in ("text", "bad")]
        first = first.replaced({"corpus.files": files})
        folder = build_from_recipe(first, progress=False)
        assert on_ranks(1, train_here, first) == [None]
        assert server.count("text.jsonl") > 0
    write_extras(folder, None, out / "card.md")
    shown = inspect_corpus(folder, sequence_length=32)
    trace_command(out / "run", 1, None)
    report_command([out / "run"], None)
    renewed = [signed(f"{server.url}/{name}.jsonl", 2) for name in ("text", "bad")]
    second = first.replaced({"corpus.files": renewed, "steps": 4})
    assert learning_changes(first, second) == []
    assert holding(out) == []
    assert SECRET.decode() not in f"{shown}{capsys.readouterr()}{caplog.text}"
    named = yaml.safe_load((out / "run/recipe.yaml").read_text())["corpus"]["files"]
    assert named == [f"{server.url}/{name}.jsonl" for name in ("text", "bad")]
    assert any("bad.jsonl" in path.read_text() for path in folder.rglob("*.jsonl")), "an audit"
    (out / "planted").write_bytes(b"x" + SECRET)
    assert holding(out) == ["planted"], "negative control"


def test_tars_behind_a_signature_are_known_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Would catch a signature in the shards made of tars, and a resume that asks for the old."""
    served, cache = tmp_path / "served", tmp_path / "cache"
    served.mkdir()
    texts = [f"{n} {' '.join(WORDS[n * k % len(WORDS)] for k in range(20))}\n" for n in range(40)]
    texts_tar(served / "a.tar", texts)
    train_tokenizer(texts, 384).save(served / "tokenizer")
    given = recipe_of(tmp_path / "run", served, steps=2, model__layers=1).replaced(
        {"corpus": None, "tokenizer": str(served / "tokenizer")}
    )
    with web_server(served) as server:
        url = f"{server.url}/a.tar?X-Amz-Signature=S3CRET"
        mixtures = [[{"corpus": f"{url}{number}", "text": "txt"}] for number in range(3)]
        one, other, third = (given.replaced({"data.mixture": one}) for one in mixtures)
        assert on_ranks(1, train_here, one) == [None]
        folders = corpus_folders(one)
        server.requests.clear()
        assert corpus_folders(other) == folders
        assert on_ranks(1, train_here, other.replaced({"steps": 4})) == [None]
        assert len(losses(other)) == 4
        (served / "a.tar").unlink()
        with pytest.raises(DataError, match=r"a\.tar: no such file") as caught:
            corpus_folders(third)
    assert holding(tmp_path / "run") == [] == holding(cache)
    assert SECRET.decode() not in f"{caught.value}{caplog.text}"


def test_a_set_behind_a_signature_is_made_once_for_all_signatures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Would catch a signature in the shards of a set, or one that a set is known by."""
    served = tmp_path / "served"
    served.mkdir()
    train_tokenizer(["user assistant system One? Yes 1."] * 20, 300).save(served / "tokenizer")
    lines = [f'{{"prompt": "One {n}?", "completion": "Yes {n}."}}' for n in range(20)]
    (served / "set.jsonl").write_text("\n".join(lines) + "\n")
    keys = {"corpus": None, "stage": "sft", "tokenizer": str(served / "tokenizer")}
    plain = recipe_of(tmp_path / "run", served, model__vocab=None)

    def given(address: str) -> Recipe:
        return plain.replaced({**keys, "data.mixture": [{"corpus": address}]})

    with web_server(served) as server:
        url, folders = f"{server.url}/set.jsonl", []
        for number in (1, 2):
            # This server reports no version: what else stands in the query would tell files apart.
            folders += corpus_folders(given(signed(url, number).partition("&")[0]))
        (served / "set.jsonl").write_text('{"prompt": "One?"}\n')
        with pytest.raises(DataError, match=r"http://127\.0\.0\.1:\d+/set\.jsonl line 1") as caught:
            corpus_folders(given(signed(url, 3)))
    assert holding(tmp_path / "cache") == []
    assert SECRET.decode() not in f"{caught.value}{caplog.text}"
    assert len(folders) == 2 and len(set(folders)) == 1
