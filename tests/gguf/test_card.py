"""A model's name and licence go with it, into a checkpoint and out again."""

from pathlib import Path

import gguf

from tests.gguf.models import add_byte_level, network, write_gguf
from trainer.checkpoint.read import CheckpointReader
from trainer.gguf.card import CARD, card_keys
from trainer.gguf.exporting import export_gguf_command
from trainer.hugging_face.exporting import export_command
from trainer.hugging_face.importing import FROM_IMPORT, import_command

SAID = {
    "general.name": "Kleines: Modell\n---\n№ 1",
    "general.license": "other",
    "general.license.name": "no",
    "general.license.link": "https://example.org/licence#1",
}


def texts_of(file: Path) -> dict[str, str]:
    fields = gguf.GGUFReader(file).fields
    return {key: fields[key].contents() for key in fields if key in SAID}


def test_name_and_licence_leave_with_the_model(tmp_path: Path) -> None:
    """Catches a licence that is lost on the way, and words that YAML takes for something else."""

    def add(writer: gguf.GGUFWriter) -> None:
        add_byte_level(writer)
        for key, text in SAID.items():
            writer.add_string(key, text)

    given, run = tmp_path / "given.gguf", tmp_path / "run"
    write_gguf(given, network("llama", num_hidden_layers=1), "llama", add=add)
    import_command(given, run)
    export_gguf_command(run, tmp_path / "out.gguf", "bf16")
    assert texts_of(tmp_path / "out.gguf") == SAID
    # gguf's own reading of a model card, which llama.cpp's converter uses, finds the same.
    export_command(run, tmp_path / "hf")
    card = gguf.Metadata.load_model_card(tmp_path / "hf")
    assert card == {
        key: SAID[f"general.{key.replace('license_', 'license.')}"]
        for key in ("license", "license_name", "license_link")
    } | {"model_name": SAID["general.name"]}
    reader = CheckpointReader(run / "checkpoints/step-00000000")
    trained = card_keys(reader.attachment(f"{FROM_IMPORT}{CARD}"), trained=True)
    assert trained == {key: text for key, text in SAID.items() if key != "general.name"}


def test_a_file_that_says_nothing_brings_no_card(tmp_path: Path) -> None:
    """Catches an empty card, and a name that is no text and refuses the model."""

    def add(writer: gguf.GGUFWriter) -> None:
        add_byte_level(writer)
        writer.add_uint32("general.license", 2)

    write_gguf(tmp_path / "given.gguf", network("llama", num_hidden_layers=1), "llama", add=add)
    import_command(tmp_path / "given.gguf", tmp_path / "run")
    reader = CheckpointReader(tmp_path / "run/checkpoints/step-00000000")
    assert f"{FROM_IMPORT}{CARD}" not in reader.attachments()
