"""The proof at the end of a conversion finds what is wrong, and leaves it where it can be seen."""

from pathlib import Path
from typing import Any

import pytest

from tests.hugging_face.models import make_model
from tests.parity.ranks import on_ranks
from trainer.hugging_face.parity import LARGEST_DIFFERENCE, Parity


def swapped(tensor: Any) -> Any:
    """A joined tensor whose first two parts of one shape have changed places."""
    from dataclasses import replace

    first, second = tensor.parts[-2:]
    crossed = replace(first, name=second.name), replace(second, name=first.name)
    return replace(tensor, parts=(*tensor.parts[:-2], *crossed))


def convert_wrongly(root: Path, which: str, module: str) -> str:
    """Convert with one tensor's parts crossed; the error."""
    from trainer.errors import CheckpointError
    from trainer.hugging_face import exporting, importing, names

    def crossed(model: Any) -> list[Any]:
        tensors = names.tensor_map(model)
        return [swapped(t) if t.name.endswith(which) and ".1." in t.name else t for t in tensors]

    make_model(root / "published", "llama", {})
    if module == "exporting":
        importing.import_command(root / "published", root / "run")
    (exporting if module == "exporting" else importing).tensor_map = crossed  # type: ignore
    try:
        if module == "exporting":
            exporting.export_command(root / "run", root / "out")
        else:
            importing.import_command(root / "published", root / "out")
    except CheckpointError as error:
        return str(error)
    return "no error"


@pytest.mark.parametrize(
    ("which", "module"), [("linear_fc1.weight", "importing"), ("linear_qkv.weight", "exporting")]
)
def test_a_wrong_map_is_found(tmp_path: Path, which: str, module: str) -> None:
    """The negative control: gate for up, or key for value, in one layer of three."""
    error = on_ranks(1, convert_wrongly, tmp_path, which, module)[0]
    assert error.startswith("parity fails") and f"{tmp_path / 'out'}.partial" in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists() and (tmp_path / "out.partial").is_dir()


def convert_what_is_not_finite(root: Path) -> str:
    """Convert a model with a NaN in its last norm; the error."""
    from safetensors.torch import load_file, save_file

    from trainer.errors import CheckpointError
    from trainer.hugging_face.importing import import_command

    make_model(root / "published", "llama", {"num_hidden_layers": 1})
    for file in (root / "published").glob("*.safetensors"):
        weights = load_file(file)
        if (norm := weights.get("model.norm.weight")) is not None:
            norm[3] = float("nan")
            save_file(weights, file, metadata={"format": "pt"})
    try:
        import_command(root / "published", root / "out", show=False)
    except CheckpointError as error:
        return str(error)
    return "no error"


def test_a_model_that_is_not_finite_is_said_to_be_and_not_that_the_conversion_is_wrong(
    tmp_path: Path,
) -> None:
    """Catches NaN weights, for which our own conversion is blamed."""
    error = on_ranks(1, convert_what_is_not_finite, tmp_path)[0]
    assert error.startswith(f"{tmp_path / 'published'}: its logits are not finite, in transformers")
    assert "NaN" in error and "choose another" in error and "parity" not in error


def proofs_of_an_untrained_model(root: Path) -> list[Parity]:
    """Of a model whose attention hardly depends on positions: as it is, and turned otherwise."""
    from trainer.checkpoint import CheckpointReader, resolve_checkpoint
    from trainer.hugging_face.config import read_config
    from trainer.hugging_face.importing import import_command
    from trainer.hugging_face.parity import measure
    from trainer.hugging_face.reading import ModelFolder
    from trainer.hugging_face.weights import CheckpointWeights

    make_model(root / "published", "llama", {"initializer_range": 0.002})
    import_command(root / "published", root / "run")
    described, _ = read_config(root / "published")
    weights = CheckpointWeights(CheckpointReader(resolve_checkpoint(root / "run")))
    other = described.model.model_copy(update={"rope_theta": 10050.0})
    folder = ModelFolder(root / "published")
    return [measure(described, model, weights, folder) for model in (described.model, other)]


def test_weights_that_hardly_turn_hide_no_rotation(tmp_path: Path) -> None:
    """Catches a proof by the real weights alone, where these are as small as at the beginning."""
    right, other = on_ranks(1, proofs_of_an_untrained_model, tmp_path)[0]
    assert right.holds and right.beyond < 1e-5
    assert other.largest_difference < LARGEST_DIFFERENCE, "the weights alone would find it"
    assert not other.holds and other.beyond > LARGEST_DIFFERENCE


def test_the_limit_grows_with_the_logits() -> None:
    """Catches a model with logits of 20 refused for fp32's last places, and of 0.2 let through."""
    assert Parity(1, 3e-4, 1.0, deviation=4.0).holds
    assert not Parity(1, 5e-4, 1.0, deviation=4.0).holds
    assert not Parity(1, 3e-4, 1.0, deviation=0.1).holds
    assert not Parity(1, 3e-4, 1.0, beyond=2e-4, deviation=4.0).holds
    assert not Parity(1, 0.0, 1.0, deviation=float("nan"), beyond=float("nan")).holds


def test_numbers_that_are_none_do_not_pass() -> None:
    """Catches a comparison that NaN slips through."""
    assert Parity(1, 9e-5, 1.0).holds
    assert not Parity(1, float("nan"), 1.0).holds
    assert not Parity(1, 1e-4, 1.0).holds
    assert not Parity(1, 0.0, 0.99).holds
