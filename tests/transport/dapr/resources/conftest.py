from pathlib import Path

import pytest

from tests.transport.dapr.resources.kit import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
