"""Fixtures that all tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc.aio import init_grpc_aio, shutdown_grpc_aio

from tests.example_store_install import install
from tests.rabbitmq_node import RabbitNode, running_node
from transport.stores.rabbitmq.config import Timing


@pytest.fixture(scope="session", autouse=True)
def _grpc_until_the_end() -> Iterator[None]:
    """Without it gRPC ends its thread, and waits for it, wherever the last leftover of a call is
    collected: in another test, whose event loop that blocks."""
    init_grpc_aio()
    yield
    shutdown_grpc_aio()


@pytest.fixture(scope="session")
def rabbitmq_node() -> Iterator[RabbitNode]:
    """A RabbitMQ of our own; skipped where it is not installed, but not in CI."""
    missing = RabbitNode.missing()
    if missing is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    yield from running_node(vhosts=120)


@pytest.fixture(scope="session")
def mortal_node(rabbitmq_node: RabbitNode) -> Iterator[RabbitNode]:  # for its skip
    """One more node, for tests that kill it; they start it again before they end."""
    yield from running_node(vhosts=8)


@pytest.fixture
def rabbitmq_url(rabbitmq_node: RabbitNode, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty vhost; since nobody kills the node, stores don't wait for its disk."""
    monkeypatch.setattr("transport.stores.rabbitmq.store.TIMING", Timing(sync_seconds=0))
    return rabbitmq_node.url()


@pytest.fixture(scope="session")
def example_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the example store's distribution is installed: a directory for the path."""
    return install(tmp_path_factory.mktemp("example"))
