"""A corpus that an earlier version of the builder made is used where the recipe names it."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.corpus.build.unfinished import existing_corpus
from trainer.data.manifest import MANIFEST_NAME
from trainer.errors import DataError

SAME: dict[str, Any] = {"shard_tokens": 500, "rules": {"normalize": {"unicode": "NFC"}}}
NEWER: dict[str, Any] = {
    "shard_tokens": 500,
    "rules": {"normalize": {"unicode": "NFC", "unwrap": True}},
    "joined": False,
}


def corpus(folder: Path, settings: dict[str, Any]) -> Path:
    """The older corpus kept here, as if it had been built with these settings."""
    older = Path(__file__).parents[2] / "compatibility" / "older" / "corpus" / MANIFEST_NAME
    manifest = json.loads(older.read_bytes())
    manifest["provenance"] = {"settings": settings, "inputs": {}}
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    return folder


def test_an_earlier_builder_is_warned_of_and_its_corpus_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Would catch runs that cannot go on because a newer version has one more rule."""
    out = corpus(tmp_path, {**SAME, "builder_rules": 1})
    existing_corpus(out, {**NEWER, "builder_rules": 2}, {})
    (warning,) = caplog.messages
    assert warning == (f"{out} was built by another version of the builder; remove it to renew it")
    changed = {**NEWER, "builder_rules": 2, "shard_tokens": 501}
    with pytest.raises(DataError, match="was built with shard_tokens 500, the recipe says 501"):
        existing_corpus(out, changed, {})
    changed = {**NEWER, "builder_rules": 2, "rules": {"normalize": {"unicode": "NFKC"}}}
    with pytest.raises(DataError, match="was built with rules"):
        existing_corpus(out, changed, {})


def test_the_same_builder_is_held_to_every_key(tmp_path: Path) -> None:
    """Negative control: a key that this version knows is no new key."""
    out = corpus(tmp_path, {**SAME, "builder_rules": 2})
    existing_corpus(out, {**SAME, "builder_rules": 2}, {})
    with pytest.raises(DataError, match="was built with rules"):
        existing_corpus(out, {**NEWER, "builder_rules": 2}, {})
