"""A model of another program is read as it is: converted once, and found again."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.gguf.models import TOKENIZER, network, our_logits, their_logits, write_gguf
from tests.hugging_face.models import make_model
from trainer.errors import CheckpointError, RecipeError
from trainer.evaluate.command import evaluate_command
from trainer.evaluate.converted import readable_checkpoint
from trainer.evaluate.options import EvaluationOptions


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("given") / "model.gguf"
    write_gguf(path, network("llama", num_hidden_layers=1), "llama")
    return path


def test_a_file_is_opened_as_the_model_that_it_holds(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a second conversion of the same content, and one that is not found after a move."""
    tokens = torch.randint(0, TOKENIZER.size, (1, 30), generator=torch.Generator().manual_seed(1))
    theirs = their_logits(file, tokens)
    with caplog.at_level("INFO", logger="trainer.evaluate.converted"):
        assert (our_logits(file, tokens) - theirs).abs().max() < 1e-4 * theirs.std()
        assert readable_checkpoint(file.parent) == readable_checkpoint(file)
        moved = shutil.copy(file, file.with_name("other") if file.suffix else file)
        assert our_logits(Path(moved), tokens).shape == theirs.shape
    Path(moved).unlink()
    assert [record.getMessage().partition(": ")[2][:17] for record in caplog.records] == [
        "is converted once",
    ] * 2


def test_a_folder_is_read_in_any_rank_of_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a conversion that waits for ranks which wait for it; and weights changed since."""
    folder = tmp_path / "model"
    make_model(folder, "qwen2", {"num_hidden_layers": 1})
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    first = readable_checkpoint(folder)
    assert first.is_dir() and readable_checkpoint(folder) == first
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert readable_checkpoint(folder) != first


def test_a_report_names_what_its_user_named(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would catch a table over a folder of the cache, of which nobody knows what it was."""
    text, written = tmp_path / "text.txt", tmp_path / "figures.json"
    text.write_text("a cat and a dog")
    evaluate_command(file, ["perplexity"], written, EvaluationOptions(texts=(str(text),)))
    assert json.loads(written.read_text())["checkpoint"] == str(file)
    assert f"{file}, step 0" in capsys.readouterr().out


def test_a_model_without_text_is_told_how_to_name_some(file: Path) -> None:
    """Would catch an import that is told to mend a recipe which it never had."""
    with pytest.raises(RecipeError, match="no text to measure; name some with --corpus DIR or"):
        evaluate_command(file, ["perplexity"], None)


def test_checkpoints_and_absent_files_are_left_to_their_own_reader(
    tmp_path: Path, file: Path, cache: Path
) -> None:
    """Catches a run that is taken for a model of another program, and a cache made for nothing."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text("{}")
    for path in (tmp_path / "run", tmp_path / "absent", tmp_path):
        assert readable_checkpoint(path) == path
    assert not cache.exists()
    with pytest.raises(CheckpointError, match=r"absent\.gguf cannot be read: No such file"):
        readable_checkpoint(tmp_path / "absent.gguf")
    cache.write_text("a file")
    with pytest.raises(RecipeError, match="name another cache by LYCEUM_CACHE"):
        readable_checkpoint(file)
