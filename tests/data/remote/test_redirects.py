"""A web server's redirects lead to its own host, or to one that everybody can reach."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.corpus.reading.samples import lines
from tests.data.remote.servers import Fault, WebServer, web_server
from trainer.corpus.reading.files import list_files
from trainer.corpus.reading.quarantine import Quarantine
from trainer.corpus.reading.read import read_file
from trainer.corpus.reading.record import ReadOptions
from trainer.data.remote.location import Url, place
from trainer.data.remote.redirects import redirected
from trainer.data.remote.transfer import Attempts, read_whole
from trainer.errors import DataError
from trainer.recipe import Recipe
from trainer.recipe.data import RemoteSection

KNOWN = {
    "public.org": ["93.184.215.14", "2606:2800:21f::1"],
    "inside": ["10.1.2.3"],
    "both.org": ["93.184.215.14", "127.0.0.1"],
    "metadata": ["169.254.169.254"],
    "mapped": ["::ffff:10.1.2.3"],
    "six": ["fd00::1"],
    "shared": ["100.64.1.1"],
}


def known(host: str) -> list[str]:
    return KNOWN.get(host, [])


@pytest.mark.parametrize(
    ("present", "location", "leads"),
    [
        ("https://inside/a.tar", "/b.tar?sig=x", "https://inside/b.tar?sig=x"),
        ("https://inside/a.tar", "https://INSIDE:8443/b.tar", "https://INSIDE:8443/b.tar"),
        ("http://inside/a.tar", "https://inside/b.tar", "https://inside/b.tar"),
        ("http://inside/a.tar", "http://inside/b.tar", "http://inside/b.tar"),
        ("https://inside/a.tar", "https://public.org/b.tar", "https://public.org/b.tar"),
        ("https://inside/a.tar", "//public.org/b.tar", "https://public.org/b.tar"),
        ("https://public.org/a.tar", "https://inside/b.tar", "https://inside/b.tar"),
    ],
)
def test_to_the_host_that_was_asked_and_to_public_ones(
    present: str, location: str, leads: str
) -> None:
    """Would catch a store refused that hands its files to a content network, or back."""
    asked = "https://inside/a.tar" if present.startswith("https") else "http://inside/a.tar"
    assert redirected(asked, present, location, False, known) == leads


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("https://both.org/a", r"private network \(127\.0\.0\.1\)"),
        (
            "https://metadata/latest",
            r"\(169\.254\.169\.254\).*private_redirects=true",
        ),
        ("https://mapped/a", "private network"),
        ("https://six/a", "private network"),
        ("https://shared/a", "private network"),
        ("https://inside.public.org/a", "not known here"),
        ("http://public.org/a", "without encryption"),
        ("http://host/a", "without encryption"),
        ("file:///etc/passwd", "no web address"),
        ("https://[::1/a", "no address"),
    ],
)
def test_to_nothing_else(location: str, why: str) -> None:
    """Would catch a server that has this machine ask an address which only it may reach."""
    with pytest.raises(DataError, match=why) as caught:
        redirected("https://host/a?sig=S3CRET", "https://host/a?sig=S3CRET", location, False, known)
    assert "\n" not in str(caught.value) and "S3CRET" not in str(caught.value)


def test_a_trusted_store_leads_inside_but_never_out_of_encryption() -> None:
    """Would catch a key that allows more than it says."""
    assert redirected("https://host/a", "https://host/a", "https://inside/b", True, known)
    with pytest.raises(DataError, match="without encryption"):
        redirected("https://host/a", "https://host/a", "http://inside/b", True, known)


CONTENT = lines({"id": "d", "text": "a text"})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WebServer]:
    (tmp_path / "a.jsonl").write_bytes(CONTENT)
    with web_server(tmp_path) as server:
        yield server


def read_both(address: str, remote: RemoteSection) -> None:
    """The file as a shard is read, and as an input of a corpus."""
    url = place(address)
    assert isinstance(url, Url) and read_whole(url, Attempts(remote)) == CONTENT
    (file,) = list_files([address], remote.access)
    options = ReadOptions(remote=remote)
    assert [document.id for document in read_file(file, options, Quarantine())] == ["d"]


def test_both_ways_of_reading_follow_alike(store: WebServer, tmp_path: Path) -> None:
    """Would catch one of the two clients that follows wherever it is led, or nowhere."""
    remote = RemoteSection(attempts=1)
    trusted = remote.model_copy(update={"private_redirects": True})
    with web_server(tmp_path / "none") as front:
        front.always = Fault(302, {"Location": f"{store.url}/a.jsonl"})
        read_both(f"{front.url}/a.jsonl", remote)
        inside = store.url.replace("127.0.0.1", "localhost")
        front.always = Fault(307, {"Location": f"{inside}/a.jsonl?sig=S3CRET"})
        read_both(f"{front.url}/a.jsonl", trusted)
        store.requests.clear()
        url = Url(f"{front.url}/a.jsonl")
        said = rf"^http://127.0.0.1:\d+/a.jsonl: redirects to {inside}/a.jsonl, .*private network"
        with pytest.raises(DataError, match=said):
            read_whole(url, Attempts(remote))
        with pytest.raises(DataError, match=said):
            list_files([str(url)], remote.access)
        assert store.requests == []
        front.always = Fault(302, {"Location": "/a.jsonl"})
        with pytest.raises(DataError, match="redirects more than 10 times"):
            read_whole(url, Attempts(remote))
        with pytest.raises(DataError, match="redirects more than 10 times"):
            list_files([str(url)], remote.access)


def test_the_key_reaches_what_a_recipe_names(store: WebServer, tmp_path: Path) -> None:
    """Would catch `data.remote.private_redirects` that corpora of files do not hear of."""
    from trainer.sources import ensure_corpus

    with web_server(tmp_path / "none") as front:
        inside = store.url.replace("127.0.0.1", "localhost")
        front.always = Fault(302, {"Location": f"{inside}/a.jsonl"})
        keys = {
            "run": str(tmp_path / "run"),
            "steps": 1,
            "sequence_length": 8,
            "model": {"layers": 1, "hidden": 8, "heads": 1, "ffn": 8},
            "batch": {"sequences": 1},
            "optimizer": {"lr": 0.01},
            "corpus": {"source": "text", "files": [f"{front.url}/a.jsonl"], "rules": None},
        }
        recipe = Recipe.from_keys(keys)
        with pytest.raises(DataError, match=r"private_redirects=true"):
            ensure_corpus(recipe)
        allowed = recipe.replaced({"data.remote.private_redirects": True})
        with pytest.raises(DataError) as caught:
            ensure_corpus(allowed, progress=False)
        assert "redirects" not in str(caught.value), "one text is too short for a corpus"
        assert len(store.requests) > 0
