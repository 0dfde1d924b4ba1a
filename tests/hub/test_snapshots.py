"""Fetching by names from a hub of our own, with a network and without one."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest

from tests.corpus.reading.tars import texts_tar
from tests.hub.server import Hub, serving
from trainer.conversations.records import read_examples
from trainer.conversations.sets import is_set
from trainer.corpus.reading.files import list_files
from trainer.corpus.reading.quarantine import Quarantine
from trainer.corpus.reading.read import read_file
from trainer.corpus.reading.record import ReadOptions
from trainer.corpus.reading.webdataset import is_webdataset, tar_input
from trainer.data.remote.location import place
from trainer.data.tokenizer import load_tokenizer, train_tokenizer
from trainer.errors import DataError
from trainer.hub.models import INDEX, model_folder
from trainer.recipe.reading import override, parse

NOWHERE = "http://127.0.0.1:9"
LINE = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi"}]}\n'


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with a model of two shards, a tokenizer and a set; the cache is empty."""
    root = tmp_path / "hub"
    model, data = root / "models/org/tiny", root / "datasets/org/set"
    train_tokenizer(["a text of words"] * 9, 280).save(model)
    (model / "config.json").write_text("{}")
    (model / INDEX).write_text(
        json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})
    )
    for name in ("one.safetensors", "two.safetensors", "consolidated.safetensors", "old/x.txt"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_bytes(name.encode())
    (data / "data").mkdir(parents=True)
    (data / "data/train-00000-of-00002.jsonl").write_text(LINE)
    (data / "data/train-00001-of-00002.jsonl").write_text(LINE)
    (data / "data/test-00000-of-00001.jsonl").write_text(LINE * 3)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving(root) as (served, address):
        files = "/{repo_id}/resolve/{revision}/{filename}"
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{address}{files}")
        monkeypatch.setattr(constants, "ENDPOINT", address)
        yield served


def unplug(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "offline":
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", NOWHERE)


@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_a_model_is_fetched_once_and_read_without_a_network(
    hub: Hub, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches weights that no index names, and a whole cached copy that is not used."""
    folder = model_folder(Path("org/tiny"))
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "tokenizer.json", INDEX, "one.safetensors", "two.safetensors"} <= names
    assert not {"consolidated.safetensors", "old"} & names
    before = len(hub.asked)
    assert model_folder(Path("hf://org/tiny")) == folder
    assert not any("resolve" in path for path in hub.asked[before:] if path.endswith("tensors"))
    unplug(monkeypatch, how)
    assert model_folder(Path("org/tiny")) == folder


@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_a_copy_that_lacks_a_file_is_not_read(
    hub: Hub, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a set of which a shard was never fetched, trained on without a word."""
    files = list_files(["hf://org/set"])
    Path(files[1].path).unlink()
    unplug(monkeypatch, how)
    with pytest.raises(DataError, match="has no whole copy"):
        list_files(["hf://org/set"])


def test_files_that_others_have_cached_are_read_without_a_network(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a cache that only our own fetching fills: transformers fetches file by file."""
    for file in hub.files("models/org/tiny"):
        name = file.relative_to(hub.root / "models/org/tiny").as_posix()
        huggingface_hub.hf_hub_download("org/tiny", name)
    unplug(monkeypatch, "offline")
    folder = model_folder(Path("org/tiny"))
    assert (folder / "two.safetensors").read_bytes() == b"two.safetensors"


def test_a_part_that_others_have_cached_is_not_taken_for_a_set(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches one shard of two, fetched by hand, that is trained on as the whole split."""
    first = "data/train-00000-of-00002.jsonl"
    huggingface_hub.hf_hub_download("org/set", first, repo_type="dataset")
    unplug(monkeypatch, "offline")
    with pytest.raises(DataError, match="has no whole copy"):
        list_files(["hf://org/set"])


def test_a_set_is_read_whole(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a shard lost because another has the same content, or a split mixed in."""
    assert len(list(read_examples(["hf://org/set"]))) == 2
    assert len(list(read_examples(["hf://org/set?split=test"]))) == 3
    unplug(monkeypatch, "offline")
    assert len(list(read_examples(["hf://org/set?split=train+test".replace("+", "%2B")]))) == 5
    assert is_set("hf://org/set")
    with pytest.raises(DataError, match=r"build a corpus of it: corpus.files=\[hf://org/set\]"):
        place("hf://org/set")


def test_the_commit_that_was_fetched_is_named(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    """Catches a run that nobody can repeat or go on with, once the branch has moved."""
    with caplog.at_level(logging.INFO, "trainer"):
        list_files(["hf://org/set"])
    commit = hub.commit("datasets/org/set")
    assert f"(files: 2, revision {commit})" in caplog.text
    pinned = list_files([f"hf://org/set?revision={commit}"])
    assert [file.path for file in pinned] == [file.path for file in list_files(["hf://org/set"])]


def test_a_tokenizer_is_the_one_of_that_name(hub: Hub) -> None:
    """Catches other files than the tokenizer's, among them gigabytes of weights."""
    local = load_tokenizer(hub.root / "models/org/tiny")
    assert load_tokenizer("org/tiny").fingerprint == local.fingerprint
    assert not any(path.endswith("tensors") for path in hub.asked)


def test_a_folder_here_comes_first(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a model of a stranger in place of one's own."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(hub.root / "models/org/tiny", tmp_path / "org/tiny")
    assert model_folder(Path("org/tiny")) == Path("org/tiny")
    load_tokenizer("org/tiny")
    assert hub.asked == []


@pytest.mark.parametrize(
    ("name", "refusal", "how", "problem"),
    [
        ("org/absent", "", "", "no such folder here, and there is no http://.*, or it is private"),
        ("org/tiny", "GatedRepo", "", "org/tiny is gated: ask for access there, then `hf auth"),
        ("org/tiny@v7", "", "", "org/tiny has no revision v7: name another"),
        ("org/tiny", "", "offline", "HF_HUB_OFFLINE forbids asking the hub, and its cache"),
        ("org/tiny", "", "unreachable", "no such folder here, and .*:9 cannot be reached"),
        ("hf://org/tiny/x", "", "", "a model's address is hf://org/name"),
    ],
)
def test_refusals_are_one_line(
    hub: Hub, name: str, refusal: str, how: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a stack trace, and a line that does not say what to do."""
    hub.refused = {"models/org/tiny": refusal} if refusal else {}
    if how:
        unplug(monkeypatch, how)
    with pytest.raises(DataError, match=problem) as error:
        model_folder(Path(name))
    assert str(error.value).startswith(f"{name}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_a_cache_without_the_weights_is_not_the_whole_model(
    hub: Hub, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Catches "holds no model.safetensors" of a model that has them where there is a network."""
    load_tokenizer("org/tiny@main")
    shutil.rmtree(tmp_path / "cache/models--org--tiny/trees", ignore_errors=True)
    unplug(monkeypatch, how)
    with pytest.raises(DataError, match=r"no whole copy: `hf download org/tiny --revision main`"):
        model_folder(Path("org/tiny@main"))


def test_a_model_without_a_tokenizer_is_refused_before_its_weights_are_fetched(hub: Hub) -> None:
    """Catches gigabytes that are fetched for an import that fails behind them."""
    (hub.root / "models/org/tiny/tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"^org/tiny: holds no tokenizer\.json; load its"):
        model_folder(Path("org/tiny"))
    assert not any(path.endswith("tensors") for path in hub.asked)


def test_models_without_safetensors_are_refused(hub: Hub) -> None:
    """Catches pickles that are fetched, or a folder without weights that is found empty later."""
    for file in (hub.root / "models/org/tiny").glob("*.safetensors*"):
        file.unlink()
    (hub.root / "models/org/tiny/pytorch_model.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"only pytorch_model\.bin, which could run code"):
        model_folder(Path("org/tiny"))
    (hub.root / "models/org/tiny/tiny.Q8_0.gguf").write_bytes(b"")
    with pytest.raises(DataError, match=r"holds GGUF files \(tiny\.Q8_0\.gguf\) and no model"):
        model_folder(Path("org/tiny"))


def test_an_address_with_a_question_mark_needs_no_quotes() -> None:
    """Catches PyYAML, which in a list in brackets ends a word at a question mark."""
    expected = {"data": {"mixture": [{"corpus": "hf://org/set?config=a&split=b", "weight": 2}]}}
    text = "[{corpus: hf://org/set?config=a&split=b, weight: 2}]"
    assert parse(f"data: {{mixture: {text}}} # why?", "it") == expected
    keys: dict = {}
    override(keys, f"data.mixture={text}")
    assert keys == expected
    block = "evaluate:\n  prompts: |\n    see http://a/b?c\n"
    assert parse(block, "it")["evaluate"]["prompts"] == "see http://a/b?c\n"


def test_tars_of_a_set_are_read_by_their_addresses(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a WebDataset of the hub that has to be fetched by hand, the hub asked anew for each
    of a thousand tars, and a sample's source that is a place in somebody's cache.
    """
    data = hub.root / "datasets/org/set"
    for number in range(3):
        texts_tar(data / f"tars/s-{number}.tar", [f"text {number}"])
    texts_tar(data / "more/x.tar", ["another"])
    listed = "hf://org/set/tars/s-{0..1}.tar::hf://datasets/org/set@main/more/*.tar"

    def texts() -> list[tuple[str, str]]:
        given = tar_input([listed], "txt", "key")
        options = ReadOptions(text_members=given.members)
        with Quarantine() as quarantine:
            return [
                (document.source, document.text)
                for file in given.files["train"]
                for document in read_file(file, options, quarantine)
            ]

    expected = [
        *((f"hf://org/set/tars/s-{number}.tar", f"text {number}") for number in range(2)),
        ("hf://org/set/more/x.tar", "another"),
    ]
    assert is_webdataset(listed) and texts() == expected
    assert sum(path == "api/datasets/org/set" for path in hub.asked) == 1, "for both tars of tars/"
    assert not any("s-2.tar" in path for path in hub.asked)
    with pytest.raises(DataError, match=r"^key: hf://org/set/tars/s-3\.tar: names no file \(and 6"):
        tar_input(["hf://org/set/tars/s-{1..9}.tar"], "txt", "key")
    with pytest.raises(DataError, match=r"^key: hf://org/set names no tar: name some, as hf://"):
        tar_input(["hf://org/set"], "txt", "key")
    with pytest.raises(DataError, match=r"is a tar of samples: name it in data\.mixture"):
        list_files(["hf://org/set/tars/*"])
    unplug(monkeypatch, "offline")
    assert texts() == expected
