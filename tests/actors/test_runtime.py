import asyncio
from typing import Any

import pytest

from actorbus.errors import StoreUnavailableError
from actors import runtime
from actors.runtime import CHAIN, TURN, LoopActor, actor_of, stop, tell, tell_merged
from tests.actors.stage import turns


class Recorder(LoopActor):
    """Remembers what it is told, and where its turns end."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Any] = []

    def on_receive(self, message: Any) -> None:
        if isinstance(message, BaseException):
            raise message
        if callable(message):
            message(self)
        else:
            self.got.append(message)

    def on_turn_end(self) -> None:
        self.got.append("end")


def start(crashes: list[Any] | None = None) -> Recorder:
    crash = None if crashes is None else lambda actor, error: crashes.append((actor, error))
    actor = actor_of(Recorder.start(crash=crash))
    assert isinstance(actor, Recorder)
    return actor


def test_messages_are_handled_in_order_and_the_turn_ends_once() -> None:
    async def script() -> None:
        actor = start()
        for number in range(3):
            tell(actor.actor_ref, number)
        await turns()
        assert actor.got == [0, 1, 2, "end"]

    asyncio.run(script())


def test_a_turn_handles_so_many_messages_and_lets_others_go_on() -> None:
    async def script() -> None:
        busy, other = start(), start()
        for number in range(TURN + 1):
            tell(busy.actor_ref, number)
        tell(other.actor_ref, lambda _: other.got.append(len(busy.got)))
        await turns()
        assert other.got[0] == TURN + 1  # one turn and its end
        assert [one for one in busy.got if one != "end"] == list(range(TURN + 1))

    asyncio.run(script())


def test_a_message_passes_several_actors_before_the_loops_other_work() -> None:
    async def script() -> None:
        first, second, third = start(), start(), start()
        seen: list[int] = []
        tell(first.actor_ref, lambda _: tell(second.actor_ref, pass_on))
        asyncio.get_running_loop().call_soon(lambda: seen.append(len(third.got)))

        def pass_on(_: object) -> None:
            tell(third.actor_ref, "arrived")

        await turns()
        assert seen == [2]  # it had arrived, and that turn had ended

    asyncio.run(script())


def test_each_actor_that_is_due_gets_a_turn_before_the_loops_other_work() -> None:
    """What a connection reads in one turn of the loop is handled before it reads on."""

    async def script() -> None:
        many = [start() for _ in range(5 * CHAIN)]
        for actor in many:
            tell(actor.actor_ref, "told")
        await asyncio.sleep(0)
        assert all(actor.got == ["told", "end"] for actor in many)

    asyncio.run(script())


def test_actors_that_never_rest_let_the_loop_go_on() -> None:
    async def script() -> None:
        actor = start()
        taken: list[int] = []

        def again(one: Recorder) -> None:
            tell(one.actor_ref, again)

        tell(actor.actor_ref, again)
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: taken.append(len(actor.got)))
        await asyncio.sleep(0)
        loop.call_soon(lambda: taken.append(len(actor.got)))
        await asyncio.sleep(0)
        stop(actor.actor_ref)
        assert taken == [CHAIN, 2 * CHAIN]

    asyncio.run(script())


def test_a_failure_of_the_runtime_itself_stops_no_other_actor() -> None:
    async def script() -> None:
        broken, other = start(), start()

        def crash(_: BaseException) -> None:
            raise OSError

        broken.crash = crash  # type: ignore[method-assign,assignment]
        loop = asyncio.get_running_loop()
        met: list[Any] = []
        loop.set_exception_handler(lambda _, context: met.append(type(context["exception"])))
        tell(broken.actor_ref, RuntimeError())
        tell(other.actor_ref, "still here")
        await turns()
        assert met == [OSError]
        assert other.got == ["still here", "end"]

    asyncio.run(script())


def test_what_an_actor_tells_itself_waits_for_the_next_turn() -> None:
    async def script() -> None:
        actor = start()
        tell(actor.actor_ref, lambda one: tell(one.actor_ref, "later"))
        await turns()
        assert actor.got == ["end", "later", "end"]

    asyncio.run(script())


def test_a_call_that_is_done_already_waits_for_no_turn_of_the_loop() -> None:
    async def script() -> None:
        actor = start()
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        done.set_result(7)
        timers: list[Any] = []
        loop.call_later = lambda *timer: timers.append(timer)  # type: ignore[method-assign,assignment]
        tell(actor.actor_ref, lambda one: one.call(done, lambda result, _: result))
        seen: list[list[Any]] = []
        loop.call_soon(lambda: seen.append([*actor.got]))
        await turns()
        assert seen == [["end", 7, "end"]]
        assert not timers

    asyncio.run(script())


def test_an_answer_that_cannot_be_made_ends_the_actor() -> None:
    async def script() -> None:
        crashes: list[Any] = []
        actor = start(crashes)

        def answer(_result: object, _error: object) -> None:
            raise RuntimeError("broken")

        actor.call(asyncio.sleep(0), answer)
        await turns()
        assert [(one, str(error)) for one, error in crashes] == [(actor, "broken")]

    asyncio.run(script())


def test_pykkas_own_tell_is_taken() -> None:
    async def script() -> None:
        actor = start()
        actor.actor_ref.tell("hello")
        await turns()
        assert actor.got == ["hello", "end"]

    asyncio.run(script())


def test_ask_is_refused() -> None:
    async def script() -> None:
        with pytest.raises(TypeError, match="futures are not supported"):
            start().actor_ref.ask("anything", block=False)

    asyncio.run(script())


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("x"),
        asyncio.CancelledError(),
        KeyboardInterrupt(),
        SystemExit(3),
        GeneratorExit(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_any_kind_ends_this_actor_alone(error: BaseException) -> None:
    async def script() -> None:
        crashes: list[Any] = []
        failing, other = start(crashes), start(crashes)
        tell(failing.actor_ref, error)
        tell(failing.actor_ref, "dropped")
        tell(other.actor_ref, "handled")
        await turns()
        assert crashes == [(failing, error)]
        assert failing.got == []
        assert other.got == ["handled", "end"]
        assert not tell(failing.actor_ref, "late")
        assert tell(other.actor_ref, "more")

    asyncio.run(script())


def test_an_error_at_the_turns_end_ends_the_actor() -> None:
    async def script() -> None:
        crashes: list[Any] = []
        actor = start(crashes)
        error = KeyboardInterrupt()

        def on_turn_end() -> None:
            raise error

        actor.on_turn_end = on_turn_end  # type: ignore[method-assign]  # the fault
        tell(actor.actor_ref, 1)
        await turns()
        assert crashes == [(actor, error)]

    asyncio.run(script())


def test_an_error_at_the_start_is_reported_after_the_start() -> None:
    class Stillborn(LoopActor):
        def on_start(self) -> None:
            raise SystemExit(1)

    async def script() -> None:
        crashes: list[Any] = []
        ref = Stillborn.start(crash=lambda *crash: crashes.append(crash))
        assert crashes == []
        assert not tell(ref, 1)
        await turns()
        assert len(crashes) == 1

    asyncio.run(script())


def test_a_dead_actor_takes_nothing() -> None:
    async def script() -> None:
        actor = start()
        tell(actor.actor_ref, 1)
        stop(actor.actor_ref)
        assert not tell(actor.actor_ref, 2)
        assert not tell_merged(actor.actor_ref, Sum(1))
        assert actor_of(actor.actor_ref) is None
        await turns()
        assert actor.got == []  # the turn that was scheduled does nothing, not even end

    asyncio.run(script())


def test_an_actor_that_stops_itself_handles_nothing_more() -> None:
    async def script() -> None:
        actor = start()
        tell(actor.actor_ref, lambda one: one.stop())
        tell(actor.actor_ref, "dropped")
        await turns()
        assert actor.got == []

    asyncio.run(script())


class Sum:
    """A message that adds up."""

    def __init__(self, value: int) -> None:
        self.value = value

    def merge(self, older: "Sum") -> "Sum":
        return Sum(older.value + self.value)


def test_waiting_messages_of_one_type_merge_with_the_newest_alone() -> None:
    async def script() -> None:
        actor = start()
        for message in (Sum(1), Sum(2)):
            tell_merged(actor.actor_ref, message)
        tell(actor.actor_ref, "between")
        tell_merged(actor.actor_ref, Sum(4))
        await turns()
        first, between, last, _ = actor.got
        assert (first.value, between, last.value) == (3, "between", 4)

    asyncio.run(script())


async def outcome(actor: Recorder) -> Any:
    while not actor.got:  # noqa: ASYNC110 - the loop's own turns are waited for
        await asyncio.sleep(0.001)
    return actor.got[0]


def test_a_call_tells_its_result() -> None:
    async def script() -> None:
        actor = start()
        actor.call(asyncio.sleep(0, "done"), lambda result, error: (result, error))
        assert await outcome(actor) == ("done", None)

    asyncio.run(script())


@pytest.mark.parametrize("error", [ValueError("bad"), StoreUnavailableError("away")])
def test_a_call_tells_its_error(error: Exception) -> None:
    async def work() -> None:
        raise error

    async def script() -> None:
        actor = start()
        actor.call(work(), lambda result, error: (result, error))
        assert await outcome(actor) == (None, error)

    asyncio.run(script())


def test_a_cancelled_call_is_an_unavailable_store() -> None:
    async def script() -> None:
        actor = start()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        actor.call(future, lambda _, error: [error])
        future.cancel()
        assert isinstance((await outcome(actor))[0], StoreUnavailableError)

    asyncio.run(script())


def test_a_call_ends_at_its_deadline_even_if_it_resists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "CALL_DEADLINE", 0.01)

    async def stubborn(released: asyncio.Event) -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    async def script() -> None:
        actor = start()
        released = asyncio.Event()
        actor.call(stubborn(released), lambda _, error: [error])
        assert isinstance((await outcome(actor))[0], StoreUnavailableError)
        released.set()
        await turns()
        assert [one for one in actor.got if one != "end"][1:] == []  # told once

    asyncio.run(script())


def test_an_open_call_has_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "CALL_DEADLINE", 0.0)

    async def script() -> None:
        actor = start()
        actor.call_openly(asyncio.sleep(0.02, "done"), lambda result, _: result)
        assert await outcome(actor) == "done"

    asyncio.run(script())


def test_a_call_of_a_stopped_actor_tells_nobody() -> None:
    async def script() -> None:
        actor = start()
        actor.call(asyncio.sleep(0, 1), lambda result, _: result)
        actor.stop()
        await turns()
        assert actor.got == []

    asyncio.run(script())
