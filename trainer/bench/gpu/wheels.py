"""`lyceum bench wheels DIR`: the packages of `bench gpu`, for a machine without a network.

That machine is a Linux x86-64 with Python 3.12, torch, triton and transformers; versions are those
of launch/constraints.txt.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from trainer.errors import DataError, RecipeError

CONSTRAINTS = Path(__file__).parents[3] / "launch" / "constraints.txt"

MOST_BYTES = 60 * 2**20
"""Of a folder."""

PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
"""Each by name: pip takes a platform at its word, and looks for no older one."""

PACKED = (
    *("megatron-core", "webdataset", "braceexpand", "liger-kernel"),
    *("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions"),
    *("einops", "hjson", "msgpack", "ninja", "psutil", "py-cpuinfo"),  # of DeepSpeed
    *("typer", "shellingham", "annotated-doc", "rich", "markdown-it-py", "mdurl", "pygments"),
    *("matplotlib", "contourpy", "cycler", "fonttools", "kiwisolver", "pillow", "pyparsing"),
    *("python-dateutil", "six"),
)
"""What the parts of `bench gpu` import beside what torch, triton and transformers bring."""
BUILT = ("deepspeed",)
"""Published as source alone: its wheel is made here, and holds Python only."""


def wheels_command(folder: Path, run: Callable[[Sequence[str]], None] | None = None) -> list[Path]:
    """Fetch all wheels into `folder`/wheels-1, -2, ..., and print the line that installs them.

    `run` (of pip's arguments) is given by tests. Raises RecipeError where the folder cannot be
    written or holds wheels already, DataError where pip fails or a wheel fits into no folder.
    """
    if any(folder.glob("wheels-*")):
        raise RecipeError(f"{folder}: has folders of wheels already; name an empty folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as fetched:
            _fetch(Path(fetched), run or _pip)
            packed = _into_folders(sorted(Path(fetched).glob("*.whl")), folder)
    except OSError as error:
        raise RecipeError(f"{folder}: cannot be written: {error.strerror}") from error
    for one in packed:
        sizes = [wheel.stat().st_size for wheel in one.iterdir()]
        print(f"{one}: {len(sizes)} wheels, {sum(sizes) / 2**20:.1f} MiB")
    print("there: python3 -m pip install --no-index --no-deps wheels-*/*.whl")
    return packed


def _fetch(folder: Path, run: Callable[[Sequence[str]], None]) -> None:
    platforms = [word for name in PLATFORMS for word in ("--platform", f"{name}_x86_64")]
    target = ["--python-version", PYTHON, "--implementation", "cp", *platforms]
    pinned = ["--no-deps", "--constraint", str(CONSTRAINTS)]
    run(["download", *pinned, "--only-binary=:all:", "--dest", str(folder), *target, *PACKED])
    run(["wheel", *pinned, "--wheel-dir", str(folder), *BUILT])
    built = [wheel for name in BUILT for wheel in folder.glob(f"{name}-*.whl")]
    if wrong := [wheel.name for wheel in built if not wheel.name.endswith("-none-any.whl")]:
        raise DataError(f"{wrong[0]}: is made for this machine alone; unset DS_BUILD_* and repeat")


def _pip(words: Sequence[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "DS_BUILD_OPS": "0"},
    )
    if ended.returncode != 0:
        last = ended.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise DataError(f"pip {words[0]} failed: {last[0]}")


def _into_folders(wheels: Sequence[Path], folder: Path) -> list[Path]:
    """Move each wheel, largest first, into the first folder with room for it."""
    free: list[int] = []
    sizes = {wheel: wheel.stat().st_size for wheel in wheels}
    if too_large := [wheel for wheel in wheels if sizes[wheel] > MOST_BYTES]:
        size, most = sizes[too_large[0]] / 2**20, MOST_BYTES / 2**20
        raise DataError(
            f"{too_large[0].name}: {size:.0f} MiB fit into no folder of {most:.0f}; "
            "bring it by hand"
        )
    for wheel in sorted(wheels, key=lambda wheel: sizes[wheel], reverse=True):
        number = next((n for n, room in enumerate(free) if room >= sizes[wheel]), len(free))
        if number == len(free):
            free.append(MOST_BYTES)
        free[number] -= sizes[wheel]
        into = folder / f"wheels-{number + 1}"
        into.mkdir(exist_ok=True)
        wheel.rename(into / wheel.name)
    return [folder / f"wheels-{number + 1}" for number in range(len(free))]
