"""A store for actorbus from another distribution: plain lists, for one process.

It shows the least that a store must do, and imports nothing but `actorbus`.
"""

from actorbus.errors import StoreUnusableError
from actorbus.store import Store
from actorbus_example.store import ExampleStore

__all__ = ["open_store"]


def open_store(url: str) -> Store:
    """The store for `example:`; what follows the scheme is the store's own business.

    Raises:
        StoreUnusableError: the URL makes no sense.
    """
    if url != "example:":
        raise StoreUnusableError("the example store has nothing to configure: use example:")
    return ExampleStore()
