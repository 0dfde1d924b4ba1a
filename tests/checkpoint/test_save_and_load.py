import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from tests.checkpoint.ranks import run_ranks
from tests.checkpoint.saving import WEIGHT, save, whole
from trainer.checkpoint import CheckpointReader, Piece, open_checkpoint, verify_checkpoint
from trainer.errors import CheckpointError

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (5,), (3, 4), (2, 3, 4)], ids=str)
def test_a_tensor_comes_back_bit_for_bit(
    tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    """Would catch a dtype written under another's name, and scalars or empty tensors lost."""
    tensor = (torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 100).to(dtype)
    loaded = open_checkpoint(save(tmp_path, 1, [whole("t", tensor)])).read("t")
    assert loaded.dtype == dtype
    assert torch.equal(loaded, tensor)


def test_views_and_not_finite_values_are_saved_as_they_are(tmp_path: Path) -> None:
    """Would catch a transposed or strided tensor written in its storage's order."""
    odd = torch.tensor([[1.0, float("nan")], [float("inf"), -0.0], [5.0, 6.0]])
    path = save(tmp_path, 1, [whole("view", odd.T), whole("gradient", odd.requires_grad_()[:, 1])])
    reader = open_checkpoint(path)
    assert torch.equal(reader.read("view").isnan(), odd.T.isnan())
    assert torch.equal(reader.read("view").nan_to_num(), odd.T.nan_to_num())
    assert reader.read("gradient").tolist()[1:] == [0.0, 6.0]


def test_the_rest_of_a_checkpoint_comes_back(tmp_path: Path) -> None:
    """Would catch counters rounded or attachments lost on the way."""
    counters = {"tokens": 2**60, "stream": {"epoch": [1, 2], "share": 0.1 + 0.2}, "none": None}
    reader = open_checkpoint(save(tmp_path, 7, counters=counters, model={"layers": 3}))
    assert (reader.step, reader.model, reader.counters) == (7, {"layers": 3}, counters)
    assert reader.attachments() == ["recipe.yaml", "tokenizer/tokenizer.json"]
    assert reader.attachment("recipe.yaml") == b"steps: 5\n"
    assert verify_checkpoint(reader.folder) == []


def test_any_safetensors_reader_can_open_the_files(tmp_path: Path) -> None:
    """Would catch a file that only this project's own code understands."""
    path = save(tmp_path, 1, [whole("a", WEIGHT), whole("b", torch.tensor(3, dtype=torch.int64))])
    loaded = load_file(path / "rank-00000.safetensors")
    assert torch.equal(loaded["a"], WEIGHT)
    assert loaded["b"].item() == 3


def cut(tensor: torch.Tensor, rows: list[int], columns: list[int]) -> list[Piece]:
    """The tensor in the pieces between the cuts."""
    return [
        Piece("w", tuple(tensor.shape), (top, left), tensor[top:bottom, left:right])
        for top, bottom in zip([0, *rows], [*rows, tensor.shape[0]], strict=True)
        for left, right in zip([0, *columns], [*columns, tensor.shape[1]], strict=True)
    ]


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each save replaces the last one
)
@given(data=st.data())
def test_any_box_is_assembled_from_any_pieces(tmp_path: Path, data: st.DataObject) -> None:
    """Would catch resharding that misplaces a row when the layout changes."""
    tensor = torch.arange(7 * 9).reshape(7, 9)
    rows = sorted(data.draw(st.sets(st.integers(1, 6), max_size=3)))
    columns = sorted(data.draw(st.sets(st.integers(1, 8), max_size=3)))
    top, left = data.draw(st.integers(0, 6)), data.draw(st.integers(0, 8))
    height, width = data.draw(st.integers(0, 7 - top)), data.draw(st.integers(0, 9 - left))
    reader = CheckpointReader(save(tmp_path, 1, cut(tensor, rows, columns)))
    loaded = reader.read("w", (top, left), (height, width))
    assert torch.equal(loaded, tensor[top : top + height, left : left + width])


def test_saved_by_four_ranks_loaded_by_two(tmp_path: Path) -> None:
    """Would catch a checkpoint that fits only the layout which saved it."""
    weight = torch.arange(32.0).reshape(8, 4)

    def save_columns(rank: int) -> None:
        pieces = [Piece("w", (8, 4), (0, rank), weight[:, rank : rank + 1])]
        pieces += [whole("scale", torch.tensor(0.5))] if rank == 2 else []
        save(tmp_path, 3, pieces, counters={"from": rank})

    def load_rows(rank: int) -> list[Any]:
        reader = open_checkpoint(tmp_path / "checkpoints" / "step-00000003")
        box = reader.read("w", (4 * rank, 0), (4, 4), dtype=torch.bfloat16)
        assert box.dtype == torch.bfloat16
        return [box.float().tolist(), reader.read("scale").item(), reader.counters]

    run_ranks(4, save_columns, tmp_path)
    halves = run_ranks(2, load_rows, tmp_path)
    assert halves[0][0] + halves[1][0] == weight.tolist()
    assert [half[1:] for half in halves] == [[0.5, {"from": 0}]] * 2


def test_a_rank_with_nothing_to_write_takes_part(tmp_path: Path) -> None:
    """Would catch a save that waits for ever for replicas which own no piece."""
    run_ranks(2, lambda rank: str(save(tmp_path, 1, None if rank == 1 else [])), tmp_path)
    reader = open_checkpoint(tmp_path / "checkpoints" / "step-00000001")
    assert torch.equal(reader.read("model/weight"), WEIGHT)


def test_only_the_wanted_part_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a rank that reads whole tensors for its slice of them."""
    read: list[int] = []

    class Counting:
        def __init__(self, path: Path, framework: str) -> None:
            self._file = safe_open(path, framework)

        def get_slice(self, name: str) -> Any:
            part = self._file.get_slice(name)

            class Slice:
                get_shape = part.get_shape

                def __getitem__(self, index: tuple[slice, ...]) -> torch.Tensor:
                    values: torch.Tensor = part[index]
                    read.append(values.numel())
                    return values

            return Slice()

    monkeypatch.setattr("trainer.checkpoint.read.safe_open", Counting)
    reader = CheckpointReader(save(tmp_path, 1, cut(WEIGHT, [2], [])))
    assert reader.read("w", (1, 2), (2, 3)).shape == (2, 3)
    assert read == [3, 3]


def test_a_generator_is_written_as_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a save that first collects every gathered tensor in memory."""
    monkeypatch.setattr("trainer.checkpoint.write.FILE_BYTES", 3 * 400)
    made: list[weakref.ref[Piece]] = []
    alive: list[int] = []

    def gathered() -> Iterator[Piece]:
        for number in range(20):
            piece = whole(f"t{number:02}", torch.full((100,), float(number)))
            made.append(weakref.ref(piece))
            alive.append(sum(1 for other in made if other() is not None))
            yield piece

    path = save(tmp_path, 1, gathered())
    assert max(alive) <= 4  # one file's worth of three, and the next one
    files = sorted(file.name for file in path.glob("*.safetensors"))
    assert files[:2] == ["rank-00000-00001.safetensors", "rank-00000-00002.safetensors"]
    assert len(files) == 7
    reader = open_checkpoint(path)
    assert [reader.read(key)[0].item() for key in reader.keys()] == list(range(20))  # noqa: SIM118


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    """Would catch a run that dies on a checkpoint left by an earlier attempt."""
    save(tmp_path, 1)
    path = save(tmp_path, 1, [whole("model/weight", WEIGHT + 1)])
    assert torch.equal(open_checkpoint(path).read("model/weight"), WEIGHT + 1)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]


def test_a_box_outside_the_tensor_or_an_unknown_tensor_is_refused(tmp_path: Path) -> None:
    """Would catch a checkpoint of a smaller model that loads in silence."""
    reader = CheckpointReader(save(tmp_path, 1))
    with pytest.raises(CheckpointError, match=r"shape \[4, 6\].*\[5, 6\]"):
        reader.read("model/weight", (0, 0), (5, 6))
    with pytest.raises(CheckpointError, match="holds no tensor model/other"):
        reader.read("model/other")
    with pytest.raises(CheckpointError, match="layers is 2 there and 3 here"):
        reader.require_model({"layers": 3})
    reader.require_model({"layers": 2})


def test_the_manifest_is_plain_json(tmp_path: Path) -> None:
    """Would catch a manifest that outside tools cannot read by the documented keys."""
    path = save(tmp_path, 1)
    body = json.loads((path / "checkpoint.json").read_text())
    assert body["format"] == "lyceum-checkpoint/1"
    piece = {"file": "rank-00000.safetensors", "name": "model/weight", "offset": [0, 0]}
    assert body["tensors"]["model/weight"] == {
        "dtype": "float32",
        "shape": [4, 6],
        "pieces": [piece | {"shape": [4, 6]}],
    }


def test_pages_that_were_read_do_not_stay_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a checkpoint that stands in memory twice while a model is read from it."""
    reader = CheckpointReader(save(tmp_path, 1, cut(WEIGHT, [2], [])))

    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count(str(tmp_path))

    assert torch.equal(reader.read("w"), WEIGHT)
    assert mapped() > 0  # negative control: what is open is mapped
    monkeypatch.setattr("trainer.checkpoint.read._MAPPED_BYTES", 0)
    assert torch.equal(reader.read("w"), WEIGHT)
    assert mapped() == 0
