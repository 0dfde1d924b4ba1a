"""Canaries survive every rule, stand in the training split alone, and are written down."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from trainer.cli import main
from trainer.corpus.build import canaries
from trainer.corpus.build.canaries import CANARIES, canaries_of, random_code, read_canaries
from trainer.corpus.build.corpus import build_corpus, corpus_folder
from trainer.corpus.inspect.curation import load_curation
from trainer.corpus.inspect.verify import verify_corpus
from trainer.corpus.rules.personal import Personal
from trainer.data.manifest import load_manifest
from trainer.errors import DataError
from trainer.evaluate.stored_text import StoredText
from trainer.recipe import CorpusSection
from trainer.recipe.canaries import CANARY_SOURCE, CanariesSection
from trainer.recipe.curation import PersonalRule

PLANTED = {"count": 3, "copies": [1, 4], "personal": 2, "seed": 5}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    dice = random.Random(1)
    words = [f"{a}{b}" for a in ("lo", "mi", "ka", "tu") for b in ("nar", "sel", "vim", "dor")]
    records = [{"text": " ".join(dice.choices(words, k=40))} for _ in range(60)]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def section(texts: Path, canaries: object, **changes: object) -> CorpusSection:
    """With every rule that would drop or change what is planted."""
    settings: dict[str, object] = {
        "source": "text",
        "files": [str(texts)],
        "vocab": 300,
        "validation": 0.3,
        "shard_tokens": 3000,
        "minimum_characters": 100,
        "workers": 1,
        "rules": {"language": None, "quality": None},
        "canaries": canaries,
    }
    return CorpusSection(**{**settings, **changes})  # type: ignore[arg-type]


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "timings.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_canaries_stand_in_training_as_often_as_asked(texts: Path, tmp_path: Path) -> None:
    """Would catch copies that are removed as duplicates, addresses that are redacted, canaries held
    out for validation, and a build that depends on its processes.
    """
    out = tmp_path / "corpus"
    build_corpus(section(texts, PLANTED), None, out, progress=False)
    assert verify_corpus(out) == []
    planted = read_canaries(out)
    assert Counter((one.kind == "code", one.copies) for one in planted) == {
        **{(True, 1): 3, (True, 4): 3},
        **{(False, 1): 3, (False, 4): 3},
    }
    text = StoredText.at(out)
    sentences = [f"{canary.prefix} {canary.value}" for canary in planted]
    assert text.occurrences(sentences) == [canary.copies for canary in planted]
    assert not any(one.id.startswith(CANARY_SOURCE) for one in text.documents("validation"))
    build_corpus(section(texts, PLANTED, workers=2), None, tmp_path / "two", progress=False)
    assert content(tmp_path / "two") == content(out)


def test_what_is_planted_is_said(texts: Path, tmp_path: Path) -> None:
    """Would catch planted text that the data card, the funnel or the provenance keeps silent on."""
    out = tmp_path / "corpus"
    manifest = build_corpus(section(texts, PLANTED), None, out, progress=False)
    assert manifest.provenance["settings"]["canaries"] == PLANTED
    assert CANARIES in manifest.provenance["files"]
    documents = 3 * (1 + 4) + 1 + 4
    curation = load_curation(out)
    assert curation is not None
    *_, before, planted, tokenized = curation.funnel
    assert (planted.name, planted.documents - before.documents) == (CANARY_SOURCE, documents)
    assert tokenized.documents == planted.documents
    assert sum(split.documents for split in manifest.splits.values()) == tokenized.documents
    assert curation.sources[CANARY_SOURCE]["kept"] == documents
    card = (out / "DATA_CARD.md").read_text()
    assert "## Planted on purpose" in card and "| code | 4 | 3 |" in card
    (out / CANARIES).write_text("{}")
    assert verify_corpus(out) == [f"{CANARIES}: altered: its sha256 is not the manifest's"]
    with pytest.raises(DataError, match=r"canaries\.json: cannot be read"):
        read_canaries(out)


def test_a_corpus_without_canaries_is_what_it_was(texts: Path, tmp_path: Path) -> None:
    """Would catch the new key in older corpora's names, bytes or settings, and a corpus with
    canaries taken for one without.
    """
    plain = section(texts, None)
    out = tmp_path / "plain"
    manifest = build_corpus(plain, None, out, progress=False)
    assert "canaries" not in manifest.provenance["settings"]
    assert not (out / CANARIES).exists()
    assert corpus_folder(plain) != corpus_folder(section(texts, PLANTED))
    build_corpus(section(texts, PLANTED), None, tmp_path / "planted", progress=False)
    own = {name: data for name, data in content(out).items() if name.startswith("tokenizer/")}
    other = content(tmp_path / "planted")
    assert own == {name: other[name] for name in own}
    with pytest.raises(DataError, match="was built with canaries"):
        build_corpus(plain, None, tmp_path / "planted", progress=False)
    held_out = load_manifest(tmp_path / "planted").splits["validation"]
    assert held_out == manifest.splits["validation"]


def test_what_is_planted_is_true_of_nobody() -> None:
    """Would catch an account that a bank may have, an address of somebody, and data that the rule
    on personal data would leave in a corpus, so that nothing would be shown by planting it.
    """
    planted = canaries_of(CanariesSection(count=20, personal=30, copies=(1, 2)))
    assert len({canary.prefix for canary in planted}) == len(planted)
    for canary in planted:
        if canary.kind == "account":
            digits = canary.value.replace(" ", "")
            assert len(digits) == 22
            assert int(digits[4:] + "131400") % 97 != 1
        elif canary.kind == "e-mail":
            assert canary.value.endswith("@example.org")
        elif canary.kind == "phone":
            assert canary.value.startswith("+44 20 7946 0")
            assert Personal(PersonalRule())(canary.value, "").findings
    assert len(random_code(random.Random(0))) == 6
    assert canaries_of(CanariesSection(seed=1)) != canaries_of(CanariesSection(seed=2))


def test_bad_keys_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would catch a canary without copies, or a misspelt key, that plants nothing in silence."""
    common = "run: r\nsteps: 1\nsequence_length: 8\nbatch: {sequences: 1}\noptimizer: {lr: 0.001}\n"
    model = "model: {layers: 1, hidden: 8, heads: 1, ffn: 16, vocab: 512}\n"
    recipe = tmp_path / "recipe.yaml"
    for key, value in (("copies", "[0]"), ("copies", "[]"), ("number", "3")):
        canaries = f"corpus: {{source: text, files: [a.txt], canaries: {{{key}: {value}}}}}\n"
        recipe.write_text(common + model + canaries)
        assert main(["corpus", "build", str(recipe)]) == 2
        assert f"corpus.canaries.{key}" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["write_sorted", "write_whole"])
def test_a_build_that_stopped_while_planting_goes_on(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Would catch canaries planted twice, or a list of them that is not what was planted."""
    planting = section(texts, PLANTED)
    build_corpus(planting, None, tmp_path / "whole", progress=False)

    def stop(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(canaries, stage, stop)
        with pytest.raises(DataError, match="build it again to continue"):
            build_corpus(planting, None, tmp_path / "stopped", progress=False)
    build_corpus(planting, None, tmp_path / "stopped", progress=False)
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")
