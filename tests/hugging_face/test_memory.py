"""A conversion needs the memory of a tensor or two, however large the model is."""

from pathlib import Path

import pytest

from tests.hugging_face.models import make_model, tensors_of
from tests.parity.ranks import on_ranks
from tests.resident import MIB, growth_mib

LARGE = {
    **{"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 24},
    **{"num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 6144},
    "initializer_range": 0.02,
}
SHARD_BYTES = 48_000_000


def make(root: Path) -> None:
    make_model(root / "small", "llama", {})
    make_model(root / "large", "llama", LARGE, shard_size=SHARD_BYTES)


def growths(root: Path) -> dict[str, float]:
    """By how many bytes the process grew at most, over what it had after a small conversion."""
    from trainer.hugging_face.exporting import export_command
    from trainer.hugging_face.importing import import_command

    import_command(root / "small", root / "small-run")  # all imports, all threads
    export_command(root / "small-run", root / "small-out")
    actions = {
        "import": lambda: import_command(root / "large", root / "run"),
        "export": lambda: export_command(root / "run", root / "out", shard_gb=SHARD_BYTES / 1e9),
        "whole": lambda: sum(tensor.sum() for tensor in tensors_of(root / "large").values()),
    }
    return {name: growth_mib(action) * MIB for name, action in actions.items()}


def test_a_conversion_stays_below_twice_the_largest_shard(tmp_path: Path) -> None:
    """Catches a model, a file or all mapped pages held at once, the proof of parity included."""
    on_ranks(1, make, tmp_path)
    shards = [file.stat().st_size for file in (tmp_path / "large").glob("*.safetensors")]
    assert len(shards) >= 5
    grown = on_ranks(1, growths, tmp_path)[0]
    assert grown["import"] < 2 * max(shards), grown
    assert grown["export"] < 2 * max(shards), grown
    assert grown["whole"] > 0.9 * sum(shards), "the measure sees a model that is loaded whole"
    exported = [file.stat().st_size for file in (tmp_path / "out").glob("*.safetensors")]
    assert len(exported) == len(shards) and max(exported) == pytest.approx(max(shards), rel=0.05)
