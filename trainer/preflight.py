"""What is checked before any verb runs."""

import importlib.metadata
import importlib.util
import os
from pathlib import Path

from trainer.errors import ClusterError, RecipeError


def refuse_unknown_kernels() -> None:
    """Raise RecipeError unless LYCEUM_KERNELS, where it is set, names an implementation."""
    chosen = os.environ.get("LYCEUM_KERNELS", "")
    if chosen not in ("", "reference", "triton"):
        raise RecipeError(
            f"LYCEUM_KERNELS: {chosen!r} is unknown; use reference, triton, or leave it out"
        )


def refuse_foreign_kernels() -> None:
    """Raise ClusterError where Hugging Face's `kernels` package is installed beside ours.

    Both install a top-level package of that name: one has overwritten or hides the other.
    """
    mend = "use an environment without it, or `pip uninstall kernels` and install lyceum again"
    try:
        version = importlib.metadata.version("kernels")
    except importlib.metadata.PackageNotFoundError:
        pass
    else:
        raise ClusterError(
            f"Hugging Face's kernels {version} is installed, and lyceum's own package has the same "
            f"name: {mend}"
        )
    ours = Path(__file__).resolve().parents[1] / "kernels" / "__init__.py"
    found = importlib.util.find_spec("kernels")
    if found is None or found.origin is None or Path(found.origin).resolve() != ours:
        where = found.origin if found else "nowhere"
        raise ClusterError(f"the package kernels is found at {where}, not at {ours}: {mend}")
