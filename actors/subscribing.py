"""Joining a group: the checks of its options that need the store, then the group itself."""

from typing import TYPE_CHECKING

from actorbus.errors import ErrorCode, RefusedError
from actorbus.store import GroupOptions
from actors.messages import Subscribe

if TYPE_CHECKING:
    from actors.supervisor import Supervisor

CHAIN = 100
"""Dead-letter topics one behind the other that are followed in the search for a circle."""


async def join_group(supervisor: "Supervisor", topic: str, request: Subscribe) -> GroupOptions:
    """Create or change a group, its dead-letter group first; the options in force.

    Raises:
        RefusedError: an option that this store or this app's other groups do not allow.
        StoreUnavailableError: a passing fault.
    """
    store = supervisor.store
    if request.start == "earliest" and not store.abilities.earliest:
        raise RefusedError(
            ErrorCode.INVALID_OPTION, "start 'earliest' is not possible with this store; use 'new'"
        )
    dead = request.changes.get("dead_letter_topic")
    if isinstance(dead, str):
        async with supervisor.dead_letter_lock:  # two joins that close a circle between them
            await _check_circle(supervisor, topic, dead, request.app_id)
            await store.join(dead, request.app_id, {}, "new")
            return await store.join(topic, request.app_id, request.changes, request.start)
    return await store.join(topic, request.app_id, request.changes, request.start)


async def _check_circle(supervisor: "Supervisor", topic: str, dead: str, app_id: str) -> None:
    seen, following = {topic}, dead
    while len(seen) < CHAIN:
        if following in seen:
            raise RefusedError(
                ErrorCode.INVALID_OPTION,
                f"dead_letter_topic {dead!r} leads back to {following!r} "
                f"through the groups of {app_id}",
            )
        seen.add(following)
        options = await supervisor.store.find(following, app_id)
        if options is None or options.dead_letter_topic is None:
            return
        following = options.dead_letter_topic
    raise RefusedError(ErrorCode.INVALID_OPTION, f"more than {CHAIN} dead-letter topics in a row")
