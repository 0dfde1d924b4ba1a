"""A merged checkpoint holds the weighted mean of whole models' weights, and is one as any other."""

import io
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

import trainer.merging.blend as blend
from tests.merging.models import TOKENS
from trainer.checkpoint import (
    CheckpointReader,
    Piece,
    latest_checkpoint,
    save_checkpoint,
    verify_checkpoint,
)
from trainer.checkpoint.adapted import read_merged, saved_recipe, saved_tokenizer
from trainer.checkpoint.merge_record import read_merge
from trainer.checkpoint.report import diff_command, list_command, verify_command
from trainer.errors import CheckpointError, LyceumError, RecipeError
from trainer.merging.command import merge_checkpoints, merge_command

QKV = "model/decoder.layers.1.self_attention.linear_qkv.weight"
EMBEDDING, HEAD = "model/embedding.word_embeddings.weight", "model/output_layer.weight"
Models = dict[str, Path]


def weights_of(folder: Path) -> dict[str, Tensor]:
    """Whole weights as exact as they were saved, adapters merged."""
    reader = read_merged(CheckpointReader(folder))
    found = {}
    for key in reader.keys():  # noqa: SIM118
        if key.startswith("model/"):
            master = key.replace("model/", "optimizer/master/")
            found[key] = reader.read(master if master in reader else key, dtype=torch.float32)
    return found


def test_it_is_the_weighted_mean_to_the_last_bit(models: Models, tmp_path: Path) -> None:
    """Catches weights in the wrong order, not divided by their sum, or rounded on the way."""
    names = ["base", "other", "third"]
    path = merge_checkpoints([models[name] for name in names], [1.0, 2.0, 5.0], tmp_path / "new")
    one, two, three = (weights_of(models[name]) for name in names)
    merged = weights_of(path)
    assert merged.keys() == one.keys() and len(merged) > 10
    for key, values in merged.items():
        expected = one[key] * 0.125 + two[key] * 0.25 + three[key] * 0.625
        assert torch.equal(values, expected), key
    assert verify_checkpoint(path) == []
    equal = weights_of(merge_checkpoints([models["base"], models["other"]], None, tmp_path / "eq"))
    assert torch.equal(equal[QKV], one[QKV] * 0.5 + two[QKV] * 0.5)


def test_masters_count_and_one_type_stays(models: Models, tmp_path: Path) -> None:
    """Catches a mean of rounded weights where exact ones were saved, and bf16 that grows."""
    both = merge_checkpoints([models["bf16"], models["base"]], None, tmp_path / "both")
    mean = weights_of(models["bf16"])[QKV] * 0.5 + weights_of(models["base"])[QKV] * 0.5
    assert torch.equal(CheckpointReader(both).read(QKV), mean)
    assert saved_recipe(CheckpointReader(both)).precision == "fp32"
    plain = [without_masters(models["bf16"], tmp_path / name) for name in ("a", "b")]
    half = CheckpointReader(merge_checkpoints(plain, [3.0, 1.0], tmp_path / "half"))
    assert half.dtype(QKV) == torch.bfloat16
    assert torch.equal(half.read(QKV), CheckpointReader(models["bf16"]).read(QKV))
    assert saved_recipe(half).precision == "bf16"


def without_masters(folder: Path, run: Path) -> Path:
    """The same checkpoint as an import leaves one: weights alone."""
    old = CheckpointReader(folder)
    pieces = [
        Piece(key, old.shape(key), (0,) * len(old.shape(key)), old.read(key))
        for key in old.keys()  # noqa: SIM118
        if key.startswith("model/")
    ]
    attachments = {name: old.attachment(name) for name in old.attachments()}
    counters, model = old.counters, old.model
    return save_checkpoint(
        run / "checkpoints", 1, pieces, model=model, counters=counters, attachments=attachments
    )


def test_adapters_are_averaged_as_what_they_add(models: Models, tmp_path: Path) -> None:
    """Catches the mean of the factors, which is another model: the negative control."""
    pair = [models["adapter"], models["adapter 2"]]
    merged = weights_of(merge_checkpoints(pair, None, tmp_path / "pair"))
    base, one, two = (weights_of(models[name]) for name in ("base", "adapter", "adapter 2"))
    torch.testing.assert_close(merged[QKV], (one[QKV] + two[QKV]) / 2, atol=1e-7, rtol=0)
    names = [f"model/decoder.layers.1.self_attention.linear_qkv.adapters.q_proj.{m}" for m in "AB"]
    first, second = ([CheckpointReader(path).read(name) for name in names] for path in pair)
    factors = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    products = [(one[1] @ one[0] + two[1] @ two[0]) / 2 for one, two in [(first, second)]]
    assert (factors[1] @ factors[0] - products[0]).abs().max() > 1e-3
    blended = weights_of(
        merge_checkpoints([models["base"], models["adapter"]], [0.75, 0.25], tmp_path / "blend")
    )
    expected = base[QKV] + 0.25 * (one[QKV] - base[QKV])
    torch.testing.assert_close(blended[QKV], expected, atol=1e-7, rtol=0)
    assert (one[QKV] - base[QKV]).abs().max() > 1e-3
    recipe = saved_recipe(CheckpointReader(latest_checkpoint(tmp_path / "blend") or Path()))
    assert (recipe.lora, recipe.init_from, recipe.stage) == (None, None, "sft")


def test_a_weight_below_zero_leads_away(
    models: Models, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a sign that is lost, and an extrapolation or a division that nobody is told of."""
    caplog.set_level("INFO")
    path = merge_checkpoints([models["other"], models["base"]], [3.0, -1.0], tmp_path / "far")
    one, two = weights_of(models["other"]), weights_of(models["base"])
    assert torch.equal(weights_of(path)[QKV], one[QKV] * 1.5 + two[QKV] * -0.5)
    assert "weights 3, -1 are divided by their sum 2: 1.5, -0.5" in caplog.text
    assert "weights below 0 extrapolate: -0.5 leads away" in caplog.text


def test_a_part_at_a_time_is_the_same(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches whole tensors, or whole models, held in memory; counted in elements that are read."""
    pair = [models["base"], models["other"]]
    whole = weights_of(merge_checkpoints(pair, [0.3, 0.7], tmp_path / "whole"))
    sizes: list[int] = []
    read = CheckpointReader.read

    def counted(self: CheckpointReader, *box: object) -> Tensor:
        values = read(self, *box)  # type: ignore[arg-type]
        sizes.append(values.numel())
        return values

    with monkeypatch.context() as patched:
        patched.setattr(CheckpointReader, "read", counted)
        patched.setattr(blend, "PART_ELEMENTS", 1000)
        path = merge_checkpoints(pair, [0.3, 0.7], tmp_path / "parts")
    largest = max(tensor.numel() for tensor in whole.values())
    assert max(sizes) <= 1000 < largest
    assert sum(sizes) == 2 * sum(tensor.numel() for tensor in whole.values())
    parts = weights_of(path)
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_tied_beside_untied_gives_both_matrices(models: Models, tmp_path: Path) -> None:
    """Catches an output head that is lost, or taken from one of them alone."""
    path = merge_checkpoints([models["tied"], models["base"]], None, tmp_path / "untied")
    tied, untied, merged = map(weights_of, (models["tied"], models["base"], path))
    assert HEAD not in tied
    assert torch.equal(merged[HEAD], tied[EMBEDDING] * 0.5 + untied[HEAD] * 0.5)
    assert CheckpointReader(path).model["tied_embeddings"] is False


def test_rows_that_take_no_part_are_left_out(models: Models, tmp_path: Path) -> None:
    """Catches padding that is averaged with tokens, or refused as another vocabulary."""
    path = merge_checkpoints([models["padded"], models["base"]], None, tmp_path / "unpadded")
    reader = CheckpointReader(path)
    assert (reader.model["vocab"], reader.model["padding_rows"]) == (TOKENS, 0)
    padded, base = weights_of(models["padded"]), weights_of(models["base"])
    expected = padded[EMBEDDING][:TOKENS] * 0.5 + base[EMBEDDING] * 0.5
    assert torch.equal(reader.read(EMBEDDING), expected)


@pytest.mark.parametrize("order", [("base", "grown"), ("grown", "base")], ids="-".join)
def test_added_tokens_start_from_the_mean(
    models: Models, tmp_path: Path, order: tuple[str, str]
) -> None:
    """Catches a vocabulary that shrinks to the smaller one, and rows of another token."""
    path = merge_checkpoints([models[name] for name in order], None, tmp_path / "grown")
    reader = CheckpointReader(path)
    known = saved_tokenizer(CheckpointReader(models["base"])).size
    base, grown = weights_of(models["base"])[EMBEDDING], weights_of(models["grown"])[EMBEDDING]
    merged = reader.read(EMBEDDING)
    torch.testing.assert_close(merged[:known], (base[:known] + grown[:known]) / 2)
    mean = base[:known].double().mean(0).float()
    torch.testing.assert_close(merged[known : known + 2], (mean + grown[known : known + 2]) / 2)
    assert saved_tokenizer(reader).has("<b>") and reader.model["vocab"] == 291


REFUSALS = {
    "one": (["base"], None, "1 checkpoint to merge; name two or more"),
    "weights": (["base", "other"], [1.0], "--weights: 1 for 2 checkpoints; give one for each"),
    "sum": (["base", "other"], [1.0, -1.0], "--weights: they sum to 0, and are divided"),
    "huge": (["base", "other"], [1e308, 1e308], "--weights: they sum to inf, and are divided"),
    "layers": (["base", "deeper"], None, "model.layers is 2 in the first and 4 in the second"),
    "rows": (["base", "wider"], None, "has 288 rows in the first and 296 in the second"),
    "tokenizer": (["base", "foreign"], None, "different tokenizers: token 259 is"),
    "rotation": (["base", "rope"], None, "model.rope_theta is 10000.0 in the first and 500000.0"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_merged_is_one_line(models: Models, tmp_path: Path, case: str) -> None:
    """Catches a mean of things that do not belong together, and a folder left behind."""
    names, weights, line = REFUSALS[case]
    with pytest.raises(LyceumError) as refused:
        merge_checkpoints([models[name] for name in names], weights, tmp_path / "new")
    assert line in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "new").exists()


def test_a_target_in_use_is_refused(models: Models, tmp_path: Path) -> None:
    """Catches a run that a merge adds a checkpoint to, and a path through a file."""
    run = models["base"].parents[1]
    pair = [models["base"], models["other"]]
    with pytest.raises(RecipeError, match=r"--into: .*base exists and is not empty"):
        merge_checkpoints(pair, None, run)
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match=r"new cannot be made, as .*file is a file"):
        merge_checkpoints(pair, None, tmp_path / "file" / "new")
    with pytest.raises(RecipeError, match=r"--into: /proc/of/none cannot be made \(No such"):
        merge_checkpoints(pair, None, Path("/proc/of/none"))


def test_a_damaged_parent_leaves_nothing(models: Models, tmp_path: Path) -> None:
    """Catches altered weights that go into the mean, and a target that is left half-written."""
    shutil.copytree(models["other"].parents[1], tmp_path / "damaged")
    file = next((tmp_path / "damaged").rglob("rank-00000.safetensors"))
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="was altered") as refused:
        merge_checkpoints([models["base"], tmp_path / "damaged"], None, tmp_path / "new")
    assert "could not save" not in str(refused.value) and str(tmp_path) in str(refused.value)
    assert not (tmp_path / "new").exists()


def test_a_model_is_merged_with_one_whose_angles_are_rounded(
    models: Models, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a run that cannot be merged with its own export, and a rotation that nobody said."""
    caplog.set_level("INFO")
    old = CheckpointReader(models["other"])
    pieces = [
        Piece(key, old.shape(key), (0,) * len(old.shape(key)), old.read(key))
        for key in old.keys()  # noqa: SIM118
    ]
    imported = save_checkpoint(
        tmp_path / "imported" / "checkpoints",
        0,
        pieces,
        model={**old.model, "rope_angles": "fp32"},
        counters=old.counters,
        attachments={name: old.attachment(name) for name in old.attachments()},
    )
    for order, angles in ((0, 1), "exact"), ((1, 0), "fp32"):
        pair = [(models["base"], imported)[number] for number in order]
        path = merge_checkpoints(pair, None, tmp_path / angles)
        assert CheckpointReader(path).model["rope_angles"] == angles
        assert saved_recipe(CheckpointReader(path)).model.rope_angles == angles
        assert f"is exact in {models['base']} and fp32 in {imported}: the merged" in caplog.text
        caplog.clear()


def test_a_killed_merge_leaves_no_checkpoint_and_is_made_again(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches half a checkpoint under a whole one's name, and a target that stays blocked."""
    pair, into = [models["base"], models["other"]], tmp_path / "new"
    ready, report = os.pipe()

    def stand_still(*_: object) -> Tensor:
        os.write(report, b".")
        signal.pause()
        raise AssertionError

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(blend, "_mean", stand_still)
        merge_checkpoints(pair, None, into)
        os._exit(0)
    assert os.read(ready, 1) == b"."
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert latest_checkpoint(into) is None and any((into / "checkpoints").iterdir())
    path = merge_checkpoints(pair, None, into)
    assert [one.name for one in (into / "checkpoints").iterdir()] == [path.name]


def test_the_commands_say_what_it_is_made_of(
    models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a merged checkpoint that nobody can tell from a trained one."""
    gone = tmp_path / "gone"
    shutil.copytree(models["other"].parents[1], gone)
    into = tmp_path / "new"
    merge_command([models["base"], gone], [0.25, 0.75], into)
    told = capsys.readouterr().out
    line = f"0.25 x {models['base']} (step 1) + 0.75 x {gone} (step 2)"
    assert line in told and "parameters in float32, verified" in told
    path = latest_checkpoint(into)
    assert path is not None
    record = read_merge(path)
    assert record is not None and record.line == line
    assert record.command.endswith(f"--weights 0.25 0.75 --into {into}")
    shutil.rmtree(gone)
    printed = io.StringIO()
    console = Console(file=printed, width=400)
    list_command(into, console)
    verify_command(into, console)
    diff_command(into, models["base"], console)
    shown = printed.getvalue()
    assert shown.count(line) == 3
    assert f"{models['base']} is still there" in shown and "step-00000002 is gone" in shown
    assert "the first is merged" in shown
    (path / "merge.json").write_bytes(b"[" * (path / "merge.json").stat().st_size)
    printed.truncate(printed.seek(0))
    list_command(into, console)
    shown = printed.getvalue()
    assert "complete" in shown and "merge.json is not what was written" in shown
