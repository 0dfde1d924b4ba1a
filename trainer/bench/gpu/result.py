"""How a part ended, why in one line, and what an earlier call has done already."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from trainer.errors import RecipeError
from trainer.files import write_output

PartState = Literal["done", "failed", "out of time", "not run", "left out"]
"""`not run`: this machine lacks something; `left out`: the call's minutes did not hold it whole."""


@dataclass(frozen=True)
class PartResult:
    """`exit_code` is null where it ran out of time or was not run."""

    part: str
    command: str
    state: PartState
    reason: str
    """One line; empty where it is done."""
    exit_code: int | None = None
    seconds: float = 0.0
    allowed_seconds: float = 0.0
    leaves: Sequence[str] = ()
    tail: Sequence[str] = ()
    """The last lines of what it printed."""
    call: str = ""
    """GPU and date of the earlier call that ran it; empty: this one."""


RECORD = "all.json"
"""Of a call, in its OUT: every result and figure."""

CEILINGS = frozenset(("bytes_per_second", "flops_per_second", "device", "source"))
"""What the part `ceilings` leaves, and the report reads of it."""


@dataclass(frozen=True)
class EarlierCall:
    """What a call left in all.json: the parts that ended well, with the figures of each."""

    done: tuple[PartResult, ...] = ()
    figures: dict[str, Any] | None = None
    """By part: the JSON that it left."""

    def copy_figures(self, out: Path) -> None:
        """Write what its parts left into `out`, where it is not there already."""
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise RecipeError(f"{out}: cannot be made a folder: {why}; name another OUT") from None
        for result in self.done:
            path = out / f"{result.part}.json"
            content = (self.figures or {}).get(result.part)
            if content is not None and not path.exists():
                write_output(path, content)


def record_of(path: Path) -> Path:
    """The file of the call whose OUT, or file, this is."""
    return path / RECORD if path.is_dir() else path


def holds_figures(out: Path) -> bool:
    """Whether a call has left figures there, or a record that cannot be read."""
    try:
        return bool(json.loads(record_of(out).read_text(encoding="utf-8"))["parts"])
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError, KeyError, TypeError):
        return True


def earlier_call(path: Path, dry: bool) -> EarlierCall:
    """Read all.json, or the folder that holds it.

    Raises RecipeError where it is not the file of such a call, or one call is dry and one is not.
    """
    try:
        content = json.loads(record_of(path).read_text(encoding="utf-8"))
        summary, figures = content["summary"], content["parts"]
        machine, was_dry = summary["machine"], bool(summary["dry"])
        results = [PartResult(**one) for one in summary["outcomes"]]
        call = f"{machine['gpu'] or 'no GPU'}, {machine['run'].get('date', 'date unknown')}"
        done = [replace(one, call=one.call or call) for one in results if one.state == "done"]
        _check_figures(figures, {one.part for one in done})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise RecipeError(f"--after {path}: no all.json of an earlier call ({why})") from error
    if was_dry != dry:
        words = ("was a dry run", "is not") if was_dry else ("was not a dry run", "is")
        raise RecipeError(f"--after {path}: it {words[0]} and this {words[1]}; name another OUT")
    return EarlierCall(tuple(done), figures)


def _check_figures(figures: dict[str, Any], done: set[str]) -> None:
    """Raise ValueError where the figures of a part that ended well are not such."""
    if "ceilings" in done:
        missing = CEILINGS - figures["ceilings"].keys()
        if missing:
            raise ValueError(f"the figures of ceilings lack {', '.join(sorted(missing))}")


def reason_of(code: int | None, allowed_seconds: float, lines: Sequence[str]) -> str:
    """Why a part is not done, in a line: the exit code and the last thing it said."""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    last = last if len(last) <= 240 else f"{last[:237]}..."
    if code is None:
        return f"ran out of its {allowed_seconds:.0f} s; its last line: {last}"
    if code == 0:
        return ""
    missing = re.search(r"No module named '([\w.-]+)'", " ".join(lines[-3:]))
    if missing:
        return f"needs {missing[1].partition('.')[0]}, which is not installed"
    killed = f"signal {-code}" if code < 0 else f"exit {code}"
    return f"{killed}: {last}"
