import json
import subprocess
import sys
from pathlib import Path

import torch

from trainer.observe.environment import environment, git_revision, write_environment


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True
    )


def test_the_environment_names_what_a_result_depends_on(tmp_path: Path) -> None:
    """Would catch a result that nobody can place."""
    write_environment(tmp_path, ranks=4)
    written = json.loads((tmp_path / "environment.json").read_text())
    assert written["packages"]["torch"] == torch.__version__
    assert written["python"] == ".".join(map(str, sys.version_info[:3]))
    assert written["command"] == sys.argv
    assert written["cpu"]["cores"] >= 1 and written["cpu"]["name"]
    assert set(written) - set(environment()) == {"ranks", "ranks_a_node"}
    assert (written["ranks"], written["ranks_a_node"]) == (4, 1)


def test_the_revision_is_that_of_the_source_and_says_if_it_was_changed(tmp_path: Path) -> None:
    """Would catch results credited to a commit that could not have made them."""
    git(tmp_path, "init")
    (tmp_path / "code").write_text("1")
    git(tmp_path, "add", "code")
    git(tmp_path, "commit", "-m", "first")
    clean = git_revision(tmp_path)
    assert clean is not None and len(clean["revision"]) == 40 and not clean["dirty"]
    (tmp_path / "code").write_text("2")
    assert git_revision(tmp_path) == {"revision": clean["revision"], "dirty": True}


def test_an_installed_package_has_no_revision(tmp_path: Path) -> None:
    """Would catch the revision of whatever repository a virtual environment lies in."""
    git(tmp_path, "init")
    installed = tmp_path / "lib"
    installed.mkdir()
    assert git_revision(installed) is None
    assert git_revision(tmp_path) is None  # no commit yet
    assert git_revision(tmp_path / "nowhere") is None
