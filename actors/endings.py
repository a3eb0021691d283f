"""What becomes of an event after an attempt: settled, delivered again, or given up. Pure."""

from collections.abc import Callable

import msgspec

from actorbus.store import GroupOptions
from actors import effects as fx
from actors import messages as msg
from actors import retry
from actors.clock import Now
from actors.counters import GroupCounters
from actors.dead_letters import DeadLetters, Dying
from actors.line import Line
from actors.messages import Run
from actors.store_calls import StoreCalls


class Endings:
    """The endings of one group's attempts.

    Args:
        options: the group's; replaced when they change.
        line: where events wait that are to be delivered again.
        tally: the group's counters.
        jitter: draws from 0.5 to 1.

    Attributes:
        calls: what the store is to be told.
        letters: events on their way to the dead-letter topic.
    """

    def __init__(
        self, options: GroupOptions, line: Line, tally: GroupCounters, jitter: Callable[[], float]
    ) -> None:
        self.options = options
        self.calls = StoreCalls()
        self.letters = DeadLetters()
        self._line = line
        self._tally = tally
        self._jitter = jitter
        self._tries: list[fx.DeadLetter] = []

    def settle_as(self, asked: msg.Settle, run: Run, answer: fx.Answer | None, now: Now) -> None:
        """A client has settled these events, in one of the three ways."""
        if asked.status == "SUCCESS":
            self.calls.settle(run, answer)
        elif asked.status == "DROP":
            dropped = msgspec.structs.replace(run, attempts=run.attempts + 1)
            self.give_up(dropped, asked.reason or "dropped", answer)
        else:
            self._retry(asked, retry.after(run, "retry"), answer, now)

    def _retry(self, asked: msg.Settle, run: Run, answer: fx.Answer | None, now: Now) -> None:
        if self._exhausted(run, asked.reason, answer):
            return
        delay = asked.delay_ms
        if delay is None:
            delay = retry.delay_ms(run, "retry", self.options, self._jitter())
        self._again(run, delay, answer, now)

    def unsettled(self, run: Run, ending: retry.Ending, now: Now) -> None:
        """The attempt has ended by a missed deadline or a lost connection."""
        run = retry.after(run, ending)
        if not self._exhausted(run, None, None):
            delay = retry.delay_ms(run, ending, self.options, self._jitter())
            self._again(run, delay, None, now)

    def _exhausted(self, run: Run, reason: str | None, answer: fx.Answer | None) -> bool:
        if not retry.exhausted(run, self.options):
            return False
        if self.options.dead_letter_topic is not None:
            # it is not delivered once more if the broker fails before the letter is durable
            self.calls.record(run, 0, None)
        self.give_up(run, reason or "max_attempts", answer)
        return True

    def _again(self, run: Run, delay: int, answer: fx.Answer | None, now: Now) -> None:
        self.calls.record(run, now.wall + delay if delay else 0, answer)
        if delay:
            self._line.delay(run, now.mono + delay)
        else:
            self._line.redeliver(run, alone=retry.suspect(run, self.options))

    def over(self, run: Run, now: Now) -> bool:
        """Whether the run's time or attempts are over before this delivery; it is given up."""
        expires_at = run.batch.expires_at
        if expires_at is not None and expires_at <= now.wall:
            self.give_up(run, "expired", None)
            return True
        if run.attempts and retry.exhausted(run, self.options):
            self.give_up(run, "max_attempts", None)
            return True
        return False

    # --- dead letters -------------------------------------------------------------------------

    def give_up(self, run: Run, reason: str, answer: fx.Answer | None) -> None:
        """No more deliveries: dead-letter it, or count it as dropped."""
        topic = self.options.dead_letter_topic
        if topic is None:
            self._tally.dropped += run.count
            self.calls.settle(run, answer)
            return
        if answer is not None:
            answer.waits += 1
        self._tries.append(self.letters.add(Dying(topic, run, reason, answer)))

    def letter_done(self, message: msg.DeadLetterDone, now: Now) -> None:
        """A try has ended: the original is settled only once the letter is durable."""
        if not message.durable:
            dying = self.letters.failed(message.token)
            if dying is not None:
                pause = retry.backoff(dying.tries - 1, self.options) * self._jitter()
                self.letters.again(message.token, now.mono + int(pause))
            return
        dying = self.letters.durable(message.token)
        if dying is None:
            return
        self._tally.dead_lettered += dying.run.count
        self.calls.settle(dying.run, dying.answer)
        if dying.answer is not None:
            dying.answer.waits -= 1

    def flush(self, now: Now) -> list[fx.Effect]:
        """Dead letters to publish now, then the store calls."""
        tries, self._tries = self._tries, []
        return [*tries, *self.letters.take_due(now.mono), *self.calls.flush()]
