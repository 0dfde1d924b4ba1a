"""WebDataset's tars train as they are: the same texts, the same order on any world."""

import io
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import webdataset
from rich.console import Console

from tests.corpus.reading.tars import Member, other, texts_tar, write_tar
from tests.corpus.reading.test_energon import prepared
from tests.data.remote.servers import Fault, web_server
from tests.parity.ranks import Died, on_ranks
from tests.training.runs import WORDS, losses, recipe_of, train_here, train_until
from trainer.corpus.build import tar_tasks, tars
from trainer.corpus.inspect.contents import inspect_corpus
from trainer.data.manifest import load_manifest
from trainer.data.remote import transfer
from trainer.data.shards import ShardReader
from trainer.data.tokenizer import load_tokenizer, train_tokenizer
from trainer.errors import DataError, RecipeError
from trainer.recipe import Recipe, learning_changes
from trainer.resume import starting_keys
from trainer.sources import build_from_recipe, corpus_folders, open_sources
from trainer.trace import trace_command

PARTS = 3
LISTED = "part-{000000..000002}.tar"


def words(tar: int, number: int) -> str:
    """A text that no other sample has."""
    chosen = [WORDS[(number * k + tar) % len(WORDS)] for k in range(8 + number % 30)]
    return f"{tar} {number} {' '.join(chosen)}\n"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tars of forty samples, and a tokenizer."""
    folder = tmp_path_factory.mktemp("tars")
    for tar in range(PARTS):
        texts_tar(folder / f"part-{tar:06d}.tar", [words(tar, n) for n in range(40)])
    train_tokenizer([words(0, n) for n in range(40)], 384).save(folder / "tokenizer")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def recipe(run: Path, shards: Path, listed: str = LISTED, **keys: Any) -> Recipe:
    """A tiny model on tars: their list, or their names in `shards`; `part`: further keys of the
    mixture's entry; `own`: keys of the recipe that stand beside those of `recipe_of`.
    """
    part = {"corpus": listed if "/" in listed else f"{shards}/{listed}", "text": "txt"}
    own = {
        "corpus": None,
        "tokenizer": str(shards / "tokenizer"),
        "data.mixture": [part | keys.pop("part", {})],
    }
    own |= keys.pop("own", {})
    return recipe_of(run, shards, **keys).replaced(own)


def documents(folder: Path, split: str = "train") -> dict[tuple[str, str], str]:
    """The texts of a split by tar and key, out of the tokens."""
    manifest, tokenizer = load_manifest(folder), load_tokenizer(folder / "tokenizer")
    found = {}
    for shard in manifest.splits[split].shards:
        reader = ShardReader(folder, shard, manifest.token_dtype)
        for number in range(shard.documents):
            ids = reader.tokens(number, 0, int(reader.lengths[number]))
            assert ids[0] == ids[-1] == tokenizer.end_of_text
            about = reader.metadata(number)
            found[about["source"], about["id"]] = tokenizer.decode(ids[1:-1])
        reader.close()
    return found


def test_the_texts_are_those_of_the_webdataset_package(shards: Path, tmp_path: Path) -> None:
    """Would catch a text lost, doubled, altered, or in both splits."""
    (folder,) = corpus_folders(recipe(tmp_path / "run", shards))
    assert isinstance(folder, Path)
    train, held_out = documents(folder), documents(folder, "validation")
    listed = [f"{shards}/part-{n:06d}.tar" for n in range(PARTS)]
    theirs = {
        (sample["__url__"], sample["__key__"]): sample["txt"].decode()
        for sample in webdataset.WebDataset(listed, shardshuffle=False)
    }
    assert train | held_out == theirs
    assert len(train) + len(held_out) == len(theirs), "no text is in both"
    assert 1 <= len(held_out) < 12, "about 2% of 120"


def test_a_killed_run_resumes_bitwise_without_its_cache(
    shards: Path, tmp_path: Path, own_cache: Path
) -> None:
    """Would catch an order that depends on when or where the tars were tokenised; and on two ranks
    other samples.
    """
    keys = {"checkpoint__every": 2, "model__layers": 1}
    whole = recipe(tmp_path / "whole", shards, **keys)
    assert on_ranks(1, train_here, whole) == [None]
    killed = recipe(tmp_path / "killed", shards, **keys)
    with pytest.raises(Died):
        on_ranks(1, train_until, killed, 5, signal.SIGKILL)
    shutil.rmtree(own_cache)
    assert on_ranks(1, train_here, killed) == [None]
    assert losses(killed) == losses(whole)
    shutil.copytree(tmp_path / "whole", tmp_path / "wide")
    for step in (6, 8):
        shutil.rmtree(tmp_path / f"wide/checkpoints/step-{step:08d}")
    wide = recipe(tmp_path / "wide", shards, **keys)
    assert on_ranks(2, train_here, wide) == [None, None]
    assert losses(wide)[4:] != losses(whole)[4:], "these steps were made on two ranks"
    assert losses(wide) == pytest.approx(losses(whole), abs=1e-5)  # sums in another order


def test_a_node_with_a_cache_of_its_own_says_so(
    tmp_path: Path, shards: Path, own_cache: Path
) -> None:
    """Would catch a second node that asks for a corpus to be built, where its cache is another."""
    elsewhere = own_cache / "tars/0123456789abcdef"
    with pytest.raises(DataError, match="or LYCEUM_CACHE, where all nodes of a run do"):
        open_sources(recipe(tmp_path / "run", shards), lambda _: [str(elsewhere)])


def test_a_cut_tar_stops_the_run_before_its_first_step(shards: Path, tmp_path: Path) -> None:
    """Would catch a truncated tar that trains, or is found when its turn comes."""
    folder = tmp_path / "cut"
    for tar in range(PARTS):
        content = (shards / f"part-{tar:06d}.tar").read_bytes()
        folder.mkdir(exist_ok=True)
        (folder / f"part-{tar:06d}.tar").write_bytes(content if tar < 2 else content[:5120])
    cut = recipe(tmp_path / "run", shards, f"{folder}/part-{{000000..000002}}.tar")
    ((kind, line),) = on_ranks(1, train_here, cut)
    assert kind == "DataError" and f"{folder}/part-000002.tar: cut short at byte" in line
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_a_stopped_pass_goes_on_and_gives_the_same_bytes(
    shards: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a terabyte tokenised anew because the last tar was interrupted."""
    monkeypatch.setattr(tars, "TASK_BYTES", 1)
    wanted = recipe(tmp_path / "run", shards)
    (folder,) = corpus_folders(wanted)
    whole = contents(Path(str(folder)))
    shutil.rmtree(own_cache)
    texts, opened = tar_tasks._texts, []

    def stops(work: Any, task: Any, *others: Any) -> Any:
        opened.append(task.number)
        if opened == [0, 1]:
            raise KeyboardInterrupt
        return texts(work, task, *others)

    monkeypatch.setattr(tar_tasks, "_texts", stops)
    with pytest.raises(KeyboardInterrupt):
        corpus_folders(wanted)
    assert corpus_folders(wanted) == [folder]
    assert opened == [0, 1, 1, 2], "the first tar was read once"
    assert contents(Path(str(folder))) == whole


def test_a_mended_tar_alone_is_read_again(
    shards: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a terabyte tokenised anew because its last tar had to be fetched again, and
    shards of a tar that is no longer there.
    """
    monkeypatch.setattr(tars, "TASK_BYTES", 1)
    monkeypatch.setattr(tars, "SMALLEST_SHARD", 300)
    folder = tmp_path / "set"
    shutil.copytree(shards, folder)
    wanted = recipe(tmp_path / "run", shards, f"{folder}/{LISTED}")
    last = folder / f"part-{PARTS - 1:06d}.tar"
    last.write_bytes(last.read_bytes()[:5120])
    texts, opened = tar_tasks._texts, []

    def noted(work: Any, task: Any, *others: Any) -> Any:
        opened.extend(file.path for file in task.files)
        return texts(work, task, *others)

    monkeypatch.setattr(tar_tasks, "_texts", noted)
    with pytest.raises(DataError, match="cut short"):
        corpus_folders(wanted)
    texts_tar(folder / "part-000001.tar", [words(1, 0)])  # and another one became shorter
    shutil.copy(shards / last.name, last)
    (made,) = corpus_folders(wanted)
    listed = [str(folder / f"part-{n:06d}.tar") for n in range(PARTS)]
    assert opened == [*listed, *listed[1:]], "the first tar was read once"
    mended = contents(Path(str(made)))
    shutil.rmtree(own_cache)
    assert corpus_folders(wanted) == [made] and contents(Path(str(made))) == mended


def contents(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_remote_tars_give_the_same_tokens(shards: Path, tmp_path: Path, monkeypatch) -> None:
    """Would catch bytes lost or doubled where a connection breaks."""
    monkeypatch.setattr(transfer, "FIRST_WAIT_SECONDS", 1e-3)
    (local,) = corpus_folders(recipe(tmp_path / "run", shards))
    expected = sorted(documents(Path(str(local))).values())
    with web_server(shards) as server:
        refused = [Fault(status=503)] * 2  # while its size is asked for
        broken = [Fault(), Fault(break_after=70_000), Fault(status=503)]
        server.faults["part-000001.tar"] = [*refused, *broken]
        remote = f"{server.url}/part-{{000000..000002}}.tar"
        keys = {"data__remote": {"attempts": 3}}
        (folder,) = corpus_folders(recipe(tmp_path / "run", shards, remote, **keys))
        assert sorted(documents(Path(str(folder))).values()) == expected
        asked = [start for path, start in server.requests if path == "/part-000001.tar"]
        assert 70_000 in asked, "it went on where it broke off"
        server.faults["part-000001.tar"] = [Fault()] + [Fault(status=503)] * 9
        texts_tar(shards / "part-000009.tar", ["changes the key"])
        remote = f"{server.url}/part-00000{{1,9}}.tar"
        keys = {"data__remote": {"attempts": 1}}
        with pytest.raises(DataError, match=r"part-000001\.tar did not come in 1 attempts"):
            corpus_folders(recipe(tmp_path / "run", shards, remote, **keys))


def test_a_run_goes_on_with_another_signature(shards: Path, tmp_path: Path) -> None:
    """Would catch a signature that ends a run with it, or that stands in its shards and accounts;
    a run that goes on where another tar came; and a password that is saved.
    """

    def read(query: str) -> tuple[Recipe, Path]:
        listed = f"{server.url}/part-{{000000..000001}}.tar{query}"
        wanted = recipe(tmp_path / "run", shards, listed)
        return wanted, Path(str(corpus_folders(wanted)[0]))

    with web_server(shards) as server:
        before, first = read("?sig=one")
        after, second = read("?sig=two")
        with pytest.raises(DataError, match=r"^data\.mixture\.0\.corpus: the URL .* password"):
            listed = server.url.replace("//", "//user:word@") + "/part-000000.tar"
            corpus_folders(recipe(tmp_path / "run", shards, listed))
    assert learning_changes(before, after) == []
    assert load_manifest(first).splits == load_manifest(second).splits, "the position is the same"
    assert not any(b"sig=" in content for content in contents(first).values())
    assert {tar for tar, _ in documents(first)} == {
        f"{server.url}/part-{n:06d}.tar" for n in range(2)
    }


def test_what_was_tokenised_before_needs_no_network(
    shards: Path, tmp_path: Path, own_cache: Path, caplog
) -> None:
    """Would catch nodes of a cluster that cannot train on what was tokenised for them, because
    they do not reach the tars; and the texts of other members taken for them.
    """
    with web_server(shards) as server:
        listed = f"{server.url}/part-00000{{0..1}}.tar"
        (made,) = corpus_folders(recipe(tmp_path / "run", shards, listed))
    wanted = recipe(tmp_path / "run", shards, listed)
    assert corpus_folders(wanted) == [made]
    assert f"going on with what was tokenised of its tars before, in {made}" in caplog.text
    with pytest.raises(DataError, match=r"^data\.mixture\.0\.corpus: .* cannot be reached"):
        corpus_folders(recipe(tmp_path / "run", shards, listed, part={"text": "json"}))
    shutil.rmtree(str(made))
    with pytest.raises(DataError, match=r"^data\.mixture\.0\.corpus: .* cannot be reached"):
        corpus_folders(wanted)


def test_of_few_samples_one_is_held_out_and_of_none_asked_none(
    tmp_path: Path, shards: Path
) -> None:
    """Would catch a default recipe that cannot evaluate, and text held out against the recipe."""
    texts_tar(tmp_path / "few.tar", ["one text", "another text", "a third"])

    def counts(**part: Any) -> dict[str, int]:
        wanted = recipe(tmp_path / "run", shards, f"{tmp_path}/few.tar", part=part)
        (folder,) = corpus_folders(wanted)
        return {name: split.documents for name, split in load_manifest(folder).splits.items()}

    assert counts() == {"train": 2, "validation": 1}
    assert counts(validation=0.0) == {"train": 3}
    assert counts(text="json[meta][pages][0]") == {"train": 2, "validation": 1}


def test_a_run_without_validation_stops_before_it_would_miss_it(
    tmp_path: Path, shards: Path
) -> None:
    """Would catch a run that ends with an error at its first evaluation, days after its start."""
    keys = {"part": {"validation": 0.0}, "steps": 4}
    wanted = recipe(tmp_path / "run", shards, "part-000000.tar", evaluate__every=4, **keys)
    ((kind, line),) = on_ranks(1, train_here, wanted)
    assert kind == "DataError" and "raise data.mixture's validation, or set evaluate" in line
    assert not (tmp_path / "run/metrics.jsonl").exists()
    wanted = recipe(tmp_path / "later", shards, "part-000000.tar", evaluate__every=5, **keys)
    assert on_ranks(1, train_here, wanted) == [None]


def test_energons_own_parts_are_the_splits(tmp_path: Path, shards: Path, caplog) -> None:
    """Would catch validation tars that are trained on, and a tar that lost samples since."""
    folder = prepared(tmp_path / "set", {"field_map": {"text": "txt"}})
    wanted = recipe(tmp_path / "run", shards, str(folder), part={"text": None, "validation": 0.5})
    (made,) = corpus_folders(wanted)
    made = Path(str(made))
    assert "its part val is held out, and not validation=0.5" in caplog.text
    train = {text for text in documents(made).values()}
    assert train == {"0 0", "0 2", "1 0", "1 1", "1 2"}, "000001 of the first tar is excluded"
    assert set(documents(made, "validation").values()) == {"2 0", "2 1", "2 2"}
    link = other("000000.link.txt", b"2", "000000.txt")
    samples: list[Member] = [("1.txt", b"1 0"), ("2.txt", b"1 1"), link]
    write_tar(folder / "shards/s-1.tar", samples)
    with pytest.raises(DataError, match=r"s-1\.tar: holds 2 samples, .* counts 3"):
        corpus_folders(wanted)


def test_what_was_left_out_is_said(tmp_path: Path, shards: Path, caplog) -> None:
    """Would catch samples without the text that vanish, and a typo that trains on nothing."""
    texts_tar(tmp_path / "a.tar", ["one text", "", "a third"])
    wanted = recipe(tmp_path / "run", shards, f"{tmp_path}/a.tar", part={"text": "txt"})
    with caplog.at_level("INFO"):
        corpus_folders(wanted)
    assert "2 texts of 3 samples; 1 empty text; 1 held out" in caplog.text
    members: list[Member] = [(f"{n}.ext{n}", b"") for n in range(9)]
    faults: list[Member] = [("x.json", b"{}"), ("y.json", b"{"), ("z.json", b"[]"), ("t.txt", b"a")]
    write_tar(tmp_path / "b.tar", members + faults)
    with caplog.at_level("INFO"):
        corpus_folders(recipe(tmp_path / "run", shards, f"{tmp_path}/b.tar", part={"text": None}))
    account = "; 3 of other kinds; 3 malformed (2 no text, 1 not JSON), the first: "
    assert account in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):
        (made,) = corpus_folders(
            recipe(tmp_path / "later", shards, f"{tmp_path}/b.tar", part={"text": None})
        )
    assert account in caplog.text, "a later run that finds them made says it too"
    report = Console(width=1000, file=io.StringIO())
    report.print(inspect_corpus(str(made)))
    assert account in report.file.getvalue()  # type: ignore[attr-defined]
    wanted = recipe(tmp_path / "run", shards, f"{tmp_path}/a.tar", part={"text": "md"})
    with pytest.raises(
        DataError, match=r"^data\.mixture\.0\.corpus: .* 3 without md \(jpg, json, txt\)"
    ):
        corpus_folders(wanted)
    with pytest.raises(RecipeError, match=r"^tokenizer: data\.mixture\.0\.corpus lists tars"):
        corpus_folders(recipe(tmp_path / "run", shards, own={"tokenizer": None}))
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/a.tar.gz").touch()
    (tmp_path / "blend.yaml").touch()
    for given, said in (
        (shards, r"for WebDataset's tars name them: .*/\*\.tar"),
        (tmp_path / "packed", r"for WebDataset's tars name them: .*/\*\.tar\.gz"),
        (tmp_path / "blend.yaml", r"blend\.yaml is a file, .* name the folders that it blends"),
        (shards / "tokenizer/tokenizer.json", r"is a file, and no corpus: build one of it"),
    ):
        with pytest.raises(DataError, match=said):
            corpus_folders(recipe(tmp_path / "run", shards, str(given), part={"text": None}))


def test_tars_are_listed_once_for_each_of_their_texts(tmp_path: Path, shards: Path) -> None:
    """Would catch captions that cannot be trained on beside the texts of the same tars."""
    named = {"corpus": f"{shards}/part-000000.tar", "text": "txt"}
    field = {"corpus": [f"{shards}/part-000000.tar"], "text": ["md", "json[text]"]}
    own = {"data.mixture": [named, field]}
    folders = [Path(str(one)) for one in corpus_folders(recipe(tmp_path / "run", shards, own=own))]
    texts, reversed_texts = (documents(one) | documents(one, "validation") for one in folders)
    assert reversed_texts == {key: text[::-1] for key, text in texts.items()}
    with pytest.raises(RecipeError, match=r"mixture\.1\.corpus: .* already is source 0"):
        recipe(tmp_path / "run", shards, own={"data.mixture": [named, named | {"text": ".TXT"}]})


def test_keys_of_another_kind_of_entry_are_refused(tmp_path: Path, shards: Path) -> None:
    """Would catch a key that is passed over, so that other text is learned than was meant."""
    (built,) = corpus_folders(recipe(tmp_path / "run", shards))
    for entry, said in (
        ({"corpus": f"{shards}/part-000000.tar", "columns": {"text": "a"}}, r"0\.columns: belongs"),
        ({"corpus": str(built), "text": "txt"}, r"0\.text: belongs to WebDataset's tars"),
        ({"corpus": str(built), "validation": 0.1}, r"0\.validation: belongs to WebDataset's"),
        ({"corpus": [str(built), str(built)]}, "only WebDataset's tars are listed together"),
    ):
        with pytest.raises(RecipeError, match=rf"^data\.mixture\..*{said}"):
            corpus_folders(recipe(tmp_path / "run", shards, own={"data.mixture": [entry]}))


def test_tars_are_tokenised_with_the_bases_tokenizer(tmp_path: Path, shards: Path) -> None:
    """Would catch a base that cannot read more text without its tokenizer named, another corpus's
    taken in its stead, and a run that cannot go on where the tokenizer's folder is gone.
    """
    shutil.copytree(shards / "tokenizer", tmp_path / "named")
    first = recipe(tmp_path / "base", shards, own={"tokenizer": str(tmp_path / "named")}, steps=1)
    assert on_ranks(1, train_here, first) == [None]
    shutil.rmtree(tmp_path / "named")
    assert (
        starting_keys(first)["tokenizer"] == f"{tmp_path}/base/checkpoints/step-00000001/tokenizer"
    )
    own = {"tokenizer": None, "init_from": str(tmp_path / "base")}
    later = recipe(tmp_path / "later", shards, own=own)
    keys = starting_keys(later)
    assert keys["tokenizer"] == f"{keys['init_from']}/tokenizer"
    assert corpus_folders(later.replaced(keys)) == corpus_folders(recipe(tmp_path / "r", shards))


def test_a_tokenizer_may_be_another_corpuss(tmp_path: Path, shards: Path) -> None:
    """Would catch tars that cannot stand beside a built corpus without naming its tokenizer."""
    (built,) = corpus_folders(recipe(tmp_path / "run", shards))
    tar = {"corpus": f"{shards}/part-000001.tar", "text": "txt"}
    own = {"data.mixture": [tar, {"corpus": str(built)}], "tokenizer": None}
    folders = corpus_folders(recipe(tmp_path / "run", shards, own=own))
    prints = {load_manifest(folder).tokenizer_fingerprint for folder in folders}
    assert folders[1] == built and len(prints) == 1


def test_corpus_build_reads_the_same_texts(tmp_path: Path, shards: Path, capsys) -> None:
    """Would catch the two ways in reading other samples, or passing over some in silence."""
    (streamed,) = corpus_folders(recipe(tmp_path / "run", shards))
    section = {
        "source": "webdataset",
        "files": [f"{shards}/part-{{000000..000002}}.tar"],
        "text_key": "txt",
        "path": str(tmp_path / "built"),
        "minimum_characters": 1,
        "near_duplicates": None,
        "rules": None,
        "workers": 1,
    }
    wanted = recipe(tmp_path / "run", shards, own={"corpus": section, "data.mixture": []})
    build_from_recipe(wanted, progress=False)

    def texts(folder: Path) -> list[str]:
        return sorted([*documents(folder).values(), *documents(folder, "validation").values()])

    assert texts(tmp_path / "built") == texts(Path(str(streamed)))
    sources = {source for source, _ in documents(tmp_path / "built")}
    assert sources <= {f"{shards}/part-{n:06d}.tar" for n in range(PARTS)}
    section |= {"text_key": "md", "path": str(tmp_path / "none")}
    with pytest.raises(DataError, match=r"no text \(120 without md \(jpg, json, txt\)\)"):
        build_from_recipe(wanted.replaced({"corpus": section}), progress=False)


def test_tars_can_be_tokenised_before_a_run(tmp_path: Path, shards: Path, capsys) -> None:
    """Would catch `corpus build` refusing a recipe whose mixture lists tars."""
    wanted = recipe(tmp_path / "run", shards)
    build_from_recipe(wanted)
    (folder,) = corpus_folders(wanted)
    train = load_manifest(folder).splits["train"]
    assert f"{folder}: train {train.documents} documents" in capsys.readouterr().out
    with pytest.raises(RecipeError, match=r"^--on: .* corpus\.source=webdataset"):
        build_from_recipe(wanted, on="slurm")


def test_a_trace_names_tar_and_key(tmp_path: Path, shards: Path, capsys) -> None:
    """Would catch a row of which nobody can tell the sample, or a name folded in a file."""
    wanted = recipe(tmp_path / "run", shards, steps=1)
    assert on_ranks(1, train_here, wanted) == [None]
    trace_command(tmp_path / "run", 1, 0)
    printed = capsys.readouterr().out
    assert f"{shards}/part-00000" in printed
    assert f": {shards}/{LISTED}, in {tmp_path}/cache/tars/" in printed
    (first, *_) = [line for line in printed.splitlines() if line.startswith("│   0 │")]
    key = first.split("│")[3].strip()
    assert len(key) == 6 and key.isdecimal()


def test_shards_end_by_the_size_of_all_tars(shards: Path, tmp_path: Path, monkeypatch) -> None:
    """Would catch memory that grows with one large tar: it is cut into shards as any corpus is."""
    monkeypatch.setattr(tars, "SMALLEST_SHARD", 300)
    (folder,) = corpus_folders(recipe(tmp_path / "run", shards))
    train = load_manifest(folder).splits["train"]
    assert len(train.shards) > 5
    assert max(shard.tokens for shard in train.shards) < 300 + 400
    assert len(documents(Path(str(folder)))) == train.documents
