"""The attachment in which a merged checkpoint says what it is made of."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from trainer.errors import CheckpointError
from trainer.parsing import read_json

MERGE_FILE = "merge.json"


@dataclass(frozen=True)
class MergedParent:
    """A checkpoint that went into a merged one.

    `named`: as the command had it; `checkpoint`: its folder then, absolute; `seal`: the sha256 of
    its manifest, which holds that of all else; `weight`: its share, of all shares that sum to 1;
    `base`, `base_seal`: where it held LoRA adapters, the checkpoint that they were merged into.
    """

    named: str
    checkpoint: str
    step: int
    seal: str
    weight: float
    base: str | None = None
    base_seal: str | None = None

    def found(self) -> str:
        """What is at its place now, in words."""
        from trainer.checkpoint.lora_base import LoraBase  # loads torch, which a list needs not

        try:
            now = LoraBase.of(Path(self.checkpoint)).seal
        except CheckpointError:
            return "gone"
        return "still there" if now == self.seal else "another one by now"


@dataclass(frozen=True)
class MergeRecord:
    """How a merged checkpoint came about; `command`: what makes it again, as one line."""

    command: str
    parents: tuple[MergedParent, ...]

    def attachment(self) -> dict[str, bytes]:
        """The attachment, by file name."""
        return {MERGE_FILE: json.dumps(asdict(self), indent=2).encode() + b"\n"}

    @property
    def line(self) -> str:
        """The sum in one line, as `0.5 x runs/a (step 100) + 0.5 x runs/b (step 40)`."""
        terms = (f"{one.weight:.6g} x {one.named} (step {one.step})" for one in self.parents)
        return " + ".join(terms)


def read_merge(folder: Path) -> MergeRecord | None:
    """What a checkpoint in this folder was merged of; None where it was not merged.

    The file's hash is not checked: `lyceum checkpoint verify` does. Raises CheckpointError where it
    is damaged.
    """
    path = Path(folder) / MERGE_FILE
    try:
        body = read_json(path.read_bytes())
        parents = tuple(MergedParent(**parent) for parent in body["parents"])
        return MergeRecord(str(body["command"]), parents)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not what was written ({error}); choose another checkpoint"
        ) from None
