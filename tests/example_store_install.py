"""Installs the example store's distribution the way anyone else's is installed."""

import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent / "example_store"


def install(folder: Path) -> Path:
    """Build and install into `folder`; the directory to put on the path."""
    source, target = folder / "source", folder / "installed"
    shutil.copytree(SOURCE, source)  # a build leaves files beside the sources
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", target, source],
        check=True,
        timeout=120,
    )
    return target
