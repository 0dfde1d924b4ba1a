"""A URL stays a URL on its way from the recipe to the server."""

from pathlib import Path
from typing import Any

import pytest

from trainer.data.remote.location import Url, place
from trainer.errors import DataError
from trainer.recipe import Recipe, learning_changes
from trainer.sources import corpus_folders, stream_arguments


def recipe_with(**data: Any) -> Recipe:
    return Recipe.from_keys(
        {
            "run": "runs/test",
            "steps": 20,
            "sequence_length": 32,
            "model": {"layers": 1, "hidden": 8, "heads": 1, "ffn": 8},
            "batch": {"sequences": 8},
            "optimizer": {"lr": 0.01},
            "data": data,
        }
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("s3://bucket/a/corpus/", "s3://bucket/a/corpus"),
        ("https://host:8443/corpus", "https://host:8443/corpus"),
        ("S3://Bucket/Corpus", "s3://Bucket/Corpus"),
        (Path("s3://bucket/corpus"), "s3://bucket/corpus"),
        (Path("http://host/corpus"), "http://host/corpus"),
    ],
)
def test_a_url_is_kept_whole(written: str | Path, meant: str) -> None:
    """Would catch pathlib making s3:/bucket of s3://bucket."""
    found = place(written)
    assert isinstance(found, Url) and found == meant and place(found) is found


@pytest.mark.parametrize("folder", ["corpora/one", "/corpora/one", "C:", "a:b/c", "s3/bucket", "."])
def test_a_folder_is_a_path(folder: str) -> None:
    """Would catch a folder with a colon taken for a URL."""
    assert place(folder) == Path(folder) and isinstance(place(folder), Path)


def test_names_are_joined_below_the_url() -> None:
    """Would catch a file name that lands behind a signature, or is not quoted."""
    assert place("s3://bucket") / "train/a.tar" == "s3://bucket/train/a.tar"
    signed = place("https://host/corpus?sig=secret") / "train/a b.tar"
    assert signed == "https://host/corpus/train/a%20b.tar?sig=secret"
    assert signed.shown == "https://host/corpus/train/a%20b.tar"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("gs://bucket/corpus", "corpora lie in folders or behind s3://, https://, http://"),
        ("ftp://host/corpus", "cannot read ftp://host/corpus"),
        ("https://user:secret@host/corpus", "put them into ~/.netrc"),
    ],
)
def test_what_cannot_be_read_is_said(url: str, said: str) -> None:
    """Would catch an unknown scheme taken for a folder, and a password shown or saved."""
    with pytest.raises(DataError, match=said) as caught:
        place(url)
    assert "secret" not in str(caught.value)


def test_the_corpora_of_a_recipe_keep_their_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a mixture whose URLs arrive at the stream as folders, or one not looked at."""
    asked: list[str] = []
    manifest = "trainer.mixture_folders.load_manifest"
    monkeypatch.setattr(manifest, lambda folder, remote: asked.append(str(folder)))
    mixture = [{"corpus": "s3://bucket/corpus"}, {"corpus": "https://host/corpus"}]
    recipe = recipe_with(mixture=mixture)
    folders = corpus_folders(recipe)
    assert folders == asked == ["s3://bucket/corpus", "https://host/corpus"]
    sources = stream_arguments(recipe, folders)["sources"]
    assert [source[0] for source in sources] == folders


def test_where_shards_are_fetched_to_may_change_on_resume() -> None:
    """Would catch a run that cannot go on elsewhere because its cache lies in another folder."""
    old = recipe_with()
    new = recipe_with(remote={"cache": "/scratch", "cache_gib": 2.0})
    assert learning_changes(old, new) == []
    other = recipe_with(block_shards=3)
    assert learning_changes(old, other), "negative control"
