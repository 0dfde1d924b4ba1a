"""A GGUF file that cannot be read is refused in one line that says what, where, and the mend."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tests.gguf.models import add_byte_level, network, write_gguf
from trainer.cli import main
from trainer.errors import DataError
from trainer.gguf.model import GgufModel, gguf_file
from trainer.hugging_face.importing import import_command


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "model.gguf"
    write_gguf(path, network("llama", num_hidden_layers=1), "llama")
    return path.read_bytes()


def refused(path: Path) -> str:
    """The one line; nothing is left of the attempt."""
    target = path.with_name("run")
    with pytest.raises(DataError) as caught:
        import_command(path, target)
    assert not target.exists() and not target.with_name("run.partial").exists()
    line = str(caught.value)
    assert "\n" not in line and len(line) < 400 and str(path.parent) in line, line
    return line


def header_of(content: bytes) -> int:
    """Bytes before the tensors."""
    return content.index(b"blk.0.ffn_down.weight")


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda whole: b"", r"no GGUF file: it begins with b'' and not with b'GGUF'"),
    "another": (lambda whole: b"PK\3\4" + whole, "is no GGUF file: it begins with b'PK"),
    "its magic alone": (lambda whole: whole[:6], "ends inside its header, after 6 bytes"),
    "half its header": (lambda whole: whole[: header_of(whole)], "ends inside its header"),
    "but the last byte": (lambda whole: whole[:-33], r"ends inside \S+: [\d,]+ of [\d,]+ bytes"),
    "version 1": (lambda whole: whole[:4] + b"\1\0\0\0" + whole[8:], "version 1, and 2 and 3"),
    "big-endian": (lambda whole: whole[:4] + b"\0\0\0\3" + whole[8:], "for big-endian machines"),
    "a count too high": (
        lambda whole: whole[:8] + b"\xff" * 8 + whole[16:],
        "it says that it holds 18,446,744,073,709,551,615 entries",
    ),
    "a text too long": (
        lambda whole: whole[:24] + b"\xff" * 7 + b"\x7f" + whole[32:],
        "ends inside its header",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused(damage: str, whole: bytes, tmp_path: Path) -> None:
    """Catches half of a download that becomes a model, and a stack trace for the rest."""
    change, words = DAMAGES[damage]
    path = tmp_path / "model.gguf"
    path.write_bytes(change(whole))
    with pytest.raises(DataError, match=words):
        GgufModel(path)
    refused(path)


def adding(**keys: Any) -> Callable[[gguf.GGUFWriter], None]:
    """A tokenizer, and further keys; `arch` in a name is the architecture."""

    def add(writer: gguf.GGUFWriter) -> None:
        add_byte_level(writer)
        for name, value in keys.items():
            key = name.replace("__", ".").replace("arch.", f"{writer.arch}.")
            kind = gguf.GGUFValueType.get_type(value)
            writer.kv_data[0].pop(key, None)
            writer.add_key_value(key, value, kind)

    return add


STRANGE: dict[str, tuple[dict[str, Any], str]] = {
    "an architecture": ({"general__architecture": "gemma3"}, r"'gemma3', and llama, qwen2, qwen3"),
    "an adapter": ({"general__type": "adapter"}, "general.type is 'adapter', and models are read"),
    "experts": ({"arch__expert_count": 8}, "llama.expert_count is 8, which is not computed"),
    "no causality": ({"arch__attention__causal": False}, "attention.causal is False"),
    "a scale": ({"arch__attention__scale": 0.25}, "attention.scale is 0.25, which is not"),
    "part of a head": ({"arch__rope__dimension_count": 8}, "dimension_count is 8 and a head is 16"),
    "widths": ({"arch__attention__value_length": 8}, "value_length is 8 and a head is 16 wide"),
    "layers unlike": ({"arch__feed_forward_length": [96, 48]}, "feed_forward_length is a list of"),
    "a rotation": ({"arch__rope__scaling__type": "su"}, "rope.scaling.type is su, without a"),
    "a shape": ({"arch__feed_forward_length": 128}, r"ffn_gate.weight has shape \[96, 64\]"),
    "layers": ({"arch__block_count": 2}, "holds no blk.1.attn_norm.weight, which a model of its"),
    "billions of layers": ({"arch__block_count": 2**31 - 1}, "holds no blk.2147483646.attn_norm"),
    "a text": ({"arch__block_count": "two"}, "block_count is 'two', and one whole number is read"),
    "a tokenizer": ({"tokenizer__ggml__model": "bert"}, "model is 'bert', and gpt2"),
    "no tokenizer": ({"tokenizer__ggml__model": "none"}, "holds no tokenizer"),
    "token types": ({"tokenizer__ggml__token_type": [1, 1]}, "has 2 tokenizer.ggml.token_type"),
    "an id": ({"tokenizer__ggml__eos_token_id": 999}, "eos_token_id is 999, and there are "),
    "an end's id": ({"tokenizer__ggml__eot_token_id": 999}, "eot_token_id is 999, and there are "),
    "sampling": ({"general__sampling__temp": "hot"}, "sampling.temp is 'hot', and a number is"),
    "no base": ({"arch__rope__freq_base": 0.0}, "rope_theta is 0.0, and frequencies follow"),
    "no epsilon": (
        {"arch__attention__layer_norm_rms_epsilon": 0.0},
        "rms_norm_eps is 0.0, and norms add a finite number",
    ),
    "no finite epsilon": (
        {"arch__attention__layer_norm_rms_epsilon": float("inf")},
        "rms_epsilon is inf, and a finite number in fp32 is read",
    ),
    "no finite choice": ({"general__sampling__top_k": float("nan")}, "top_k is nan, and a finite"),
    "no count of files": ({"split__count": "two"}, "split.count is 'two', and one whole number"),
    "merges": ({"tokenizer__ggml__merges": ["a"]}, "merges, number 0: 'a' is no pair of tokens"),
}


@pytest.mark.parametrize("case", STRANGE)
def test_what_is_not_computed_is_refused(case: str, tmp_path: Path) -> None:
    """Catches a model that is read as its nearest relative."""
    keys, words = STRANGE[case]
    path = tmp_path / "model.gguf"
    write_gguf(path, network("llama", num_hidden_layers=1), "llama", add=adding(**keys))
    line = refused(path)
    assert re.search(words, line), line


def test_tensors_must_be_those_of_the_model(tmp_path: Path) -> None:
    """Catches a lost tensor that keeps its initial values, and one that is left out silently."""
    path = tmp_path / "model.gguf"
    model = network("qwen2", num_hidden_layers=1)
    write_gguf(path, model, "qwen2", leave_out=("blk.0.attn_q.bias",))
    assert "holds no blk.0.attn_q.bias, which a model of its metadata has" in refused(path)
    extra = {"blk.0.attn_output.bias": np.zeros(64, np.float32)}
    write_gguf(path, model, "qwen2", extra=extra)
    assert "holds blk.0.attn_output.bias, which is not computed" in refused(path)


def test_a_path_must_mean_one_model(whole: bytes, tmp_path: Path) -> None:
    """Catches the first of several files that is taken for the one that was meant."""
    assert "absent.gguf cannot be read: No such file" in refused(tmp_path / "absent.gguf")
    folder = tmp_path / "folder"
    folder.mkdir()
    assert gguf_file(folder) is None
    (folder / "a.gguf").write_bytes(whole)
    assert gguf_file(folder) == folder / "a.gguf"
    (folder / "b.gguf").write_bytes(whole)
    assert "holds 2 GGUF files; name one of them: a.gguf, b.gguf" in refused(folder)
    command = ["import", str(folder), str(tmp_path / "run")]
    assert main(command) == 3 and main([*command[:1], str(tmp_path / "x/y.gguf"), "r"]) == 3
    (tmp_path / "renamed").write_bytes(whole)
    assert gguf_file(tmp_path / "renamed") == tmp_path / "renamed"


def test_split_files_are_read_from_the_first(tmp_path: Path) -> None:
    """Catches tensors of the later files that are missed, and a part that stands for the whole."""
    model = network("qwen3", num_hidden_layers=1)
    path = tmp_path / "model.gguf"
    write_gguf(path, model, "qwen3")
    write_gguf(tmp_path / "cut.gguf", model, "qwen3", split_max_tensors=5)
    parts = sorted(tmp_path.glob("cut-*.gguf"))
    assert len(parts) == 3
    for file in (parts[0], path):
        read = GgufModel(file).tensors()
        read.check({name: tuple(held.shape) for name, held in model.state_dict().items()})
    path.unlink()
    assert gguf_file(tmp_path) == parts[0]
    assert "is number 2 of 3 files; name the first, cut-00001-of-00003.gguf" in refused(parts[1])
    parts[2].rename(tmp_path / "lost")
    assert "cut-00003-of-00003.gguf is missing, of 3 files; fetch it" in refused(parts[0])
    parts[0].rename(tmp_path / "whole.gguf")
    assert "is one of 3 files, and its name is not" in refused(tmp_path / "whole.gguf")
