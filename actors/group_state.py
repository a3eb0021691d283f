"""What a subscription group decides, as a pure state machine.

Messages go in with the time, effects come out. The actor around it (`actors.group`) calls `handle`
for each message of a turn, then `pump` once. The invariants, held by tests/properties:

- an event is in one place at a time: in the line, offered, leased, being dead-lettered or moved,
  or settled; so it never has two live leases, and none is lost;
- no member is offered more than its room; leased events never exceed the group's `max_in_flight`;
- leased plus delayed events never exceed `GROUP_OUTSTANDING`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from actorbus.limits import GROUP_OUTSTANDING, GROUP_READ_AHEAD_BYTES
from actorbus.store import Abilities, Attempt, GroupOptions, Stored
from actors import effects as fx
from actors import messages as msg
from actors import retry
from actors.clock import Now
from actors.counters import GroupCounters
from actors.endings import Endings
from actors.leases import LeaseTable
from actors.line import Line
from actors.members import Members
from actors.messages import Run
from actors.offers import Offers, cut, hand_out, total
from actors.reading import Reading

SLEEP_AFTER_MS = 60_000
"""A group without members and work goes to sleep after this time."""


class GroupState:
    """One generation of one group.

    Args:
        options: in force.
        abilities: the store's.
        tally: what is counted outlives the generation.
        jitter: draws from 0.5 to 1.
        now: the start.

    Attributes:
        leases: what is out.
        line: what is in hand.
        members: who is there.
    """

    def __init__(
        self,
        options: GroupOptions,
        abilities: Abilities,
        tally: GroupCounters,
        jitter: Callable[[], float],
        now: Now,
    ) -> None:
        self.options = options
        self.leases = LeaseTable()
        self.line = Line()
        self.members = Members()
        self.tally = tally
        self._abilities = abilities
        self._offers = Offers()
        self._moving: dict[int, tuple[Run, int]] = {}
        self._reading = Reading(log=abilities.log)
        self._endings = Endings(options, self.line, tally, jitter)
        self._shut = False
        self._quiet_since: int | None = now.mono
        self._stuck_since: int | None = None
        self._timer: int | None = None
        self._out: list[fx.Effect] = []

    # --- entry points -------------------------------------------------------------------------

    def handle(self, message: msg.Message, now: Now) -> None:
        """Take in one message; its effects come out of the next `pump`."""
        _HANDLERS[type(message)](self, message, now)

    def pump(self, now: Now) -> list[fx.Effect]:
        """What is to be done after the messages of a turn."""
        self._expire_leases(now)
        self._wake_delayed(now)
        going = not (self._reading.releasing or self._shut)
        if going:
            self._offer(now)
        # before anything is given back: what goes back must take its history along
        self._out += self._endings.flush(now)
        if going:
            self._give_back(now)
            self._fetch(now)
        sleepy = self._sleepy(now)
        self._set_timer(now)
        self._tell_tally()
        if sleepy:
            self._out.append(fx.Sleep())
        out, self._out = self._out, []
        return out

    def answered(self, answers: Iterable[fx.Answer], *, failed: bool) -> list[fx.Effect]:
        """A store call has ended: the replies that waited for nothing else."""
        done: list[fx.Effect] = []
        for answer in answers:
            answer.waits -= 1
            answer.failed = answer.failed or failed
            if answer.waits == 0:
                done.append(fx.Reply(answer))
        return done

    def outstanding(self) -> int:
        """Events that count against `GROUP_OUTSTANDING`: leased, delayed or on their way."""
        return (
            self.leases.count
            + self.line.held()
            + self._offers.count
            + self._endings.letters.count
            + len(self._moving)
        )

    def lease_ms(self) -> int:
        """How long a lease granted now runs."""
        longest = self._abilities.longest_lease_ms
        wait = self.options.ack_wait_ms
        return wait if longest is None else min(wait, longest)

    # --- members ------------------------------------------------------------------------------

    def _on_attach(self, message: msg.Attach, _now: Now) -> None:
        if not self.members.subscribed():
            self._reading.behind = True  # a group without members is told of nothing
        self.members.add(message.member)
        self._out.append(fx.Open(message.member))

    def _on_room(self, message: msg.Room, _now: Now) -> None:
        member = self.members.get(message.member)
        if member is not None:
            member.room = message.room

    def _on_leave(self, message: msg.Leave, _now: Now) -> None:
        self.members.leave(message.member)
        self._remove_if_done(message.member)

    def _on_detach(self, message: msg.Detach, now: Now) -> None:
        self._put_back(self._offers.pop(message.member))
        runs = self.leases.drop(message.member)
        self.members.remove(message.member)
        if not message.counts:
            self._put_back(runs)
            return
        for run in runs:
            self._endings.unsettled(run, "lost", now)

    def _remove_if_done(self, key: int) -> None:
        member = self.members.get(key)
        if member is None or not member.leaving:
            return
        if key not in self._offers and not self.leases.held.get(key):
            self.members.remove(key)

    # --- offers -------------------------------------------------------------------------------

    def _offer(self, now: Now) -> None:
        if self._offers or not self.line.ready():
            return  # one round at a time keeps first attempts in order
        self._offer_alone(now)
        runs = self._next_runs(self._free(), now)
        if runs:
            offers, rest = hand_out(runs, self.members.share(total(runs), self.leases.held))
            for key, mine in offers.items():
                self._make_offer(key, tuple(mine), alone=False)
            self._put_back(rest)
        self._offer_alone(now)  # what has just turned out to be a suspect, if anyone is left

    def _next_runs(self, limit: int, now: Now) -> list[Run]:
        """Up to `limit` events that may be delivered beside others."""
        runs: list[Run] = []
        while limit > 0:
            found = self.line.take(limit, GROUP_OUTSTANDING - self.outstanding() - total(runs))
            if not found:
                break
            for run in found:
                if self._endings.over(run, now):
                    continue
                if retry.suspect(run, self.options):
                    self.line.redeliver(run, alone=True)
                    continue
                runs.append(run)
                limit -= run.count
        return runs

    def _offer_alone(self, now: Now) -> None:
        while self.line.alone and self._cap() > 0:
            run = self.line.alone.pop(0)
            if self._endings.over(run, now):
                continue
            key = self.members.first(self.leases.held)
            if key is None:
                self.line.alone.insert(0, run)
                return
            self._make_offer(key, (run,), alone=True)

    def _make_offer(self, key: int, runs: tuple[Run, ...], *, alone: bool) -> None:
        member = self.members.get(key)
        if member is None:
            raise AssertionError(key)
        member.offered = self._offers.add(key, runs)
        self._out.append(fx.Deliver(key, runs, alone))

    def _on_taken(self, message: msg.Taken, now: Now) -> None:
        taken, rest = cut(self._offers.pop(message.member), message.count)
        member = self.members.get(message.member)
        if member is not None:
            member.offered = 0
            member.room = message.room
        first_id, wait = message.first_id, self.lease_ms()
        for run in taken:
            self.leases.grant(message.member, first_id, run, now.mono, wait)
            self.tally.delivered += run.count
            if run.attempts:
                self.tally.redelivered += run.count
            first_id += run.count
        if taken:
            self._stuck_since = None
        self._put_back(rest)
        self._remove_if_done(message.member)

    def _put_back(self, runs: Sequence[Run]) -> None:
        for run in reversed(runs):
            if retry.suspect(run, self.options):
                self.line.redeliver(run, alone=True)
            else:
                self.line.put_back(run)

    def _cap(self) -> int:
        if not self.options.max_in_flight:
            return GROUP_OUTSTANDING
        return max(self.options.max_in_flight - self.leases.count - self._offers.count, 0)

    def _free(self) -> int:
        """Events that could be offered."""
        return min(self._cap(), self.members.room(self.leases.held))

    # --- endings ------------------------------------------------------------------------------

    def _on_settle(self, message: msg.Settle, now: Now) -> None:
        runs, stale = self.leases.settle(message.member, message.pieces)
        member = self.members.get(message.member)
        if member is not None:
            member.room = message.room if not member.offered else member.room
            member.late = member.late and not runs
        answer = None
        if message.token is not None:
            answer = fx.Answer(message.member, message.token, tuple(stale))
        for run in runs:
            self._endings.settle_as(message, run, answer, now)
        if answer is not None and answer.waits == 0:
            self._out.append(fx.Reply(answer))
        self._remove_if_done(message.member)

    def _expire_leases(self, now: Now) -> None:
        for lease, late in self.leases.expire(now.mono):
            member = self.members.get(lease.member)
            if member is not None:
                member.late = True
            self._out.append(fx.Revoked(lease.member, tuple(lease.pieces(late))))
            for run in lease.runs(late):
                self._endings.unsettled(run, "missed", now)
            self._remove_if_done(lease.member)

    def _on_letter_done(self, message: msg.DeadLetterDone, now: Now) -> None:
        self._endings.letter_done(message, now)

    def _on_extend(self, message: msg.Extend, now: Now) -> None:
        stale = self.leases.extend(
            message.member,
            message.pieces,
            now.mono,
            message.ack_wait_ms or self.options.ack_wait_ms,
            self._abilities.longest_lease_ms,
        )
        if message.token is not None:
            self._out.append(fx.Reply(fx.Answer(message.member, message.token, tuple(stale))))

    def _wake_delayed(self, now: Now) -> None:
        for run in self.line.take_due(now.mono):
            self.line.redeliver(run, alone=retry.suspect(run, self.options))

    # --- the feed -----------------------------------------------------------------------------

    def _on_feed_open(self, message: msg.FeedOpen, _now: Now) -> None:
        self._reading.opened(message.feed.position)

    def _on_notice(self, message: msg.Notice, _now: Now) -> None:
        for batch in message.batches:
            if not self._may_read() or not self._reading.follows(batch):
                self._reading.behind = True
                return
            self.line.append(Run(batch, 0, len(batch.events)))
        if not message.batches:
            self._reading.behind = True

    def _may_read(self) -> bool:
        return (
            not self._shut
            and self.members.subscribed() > 0
            and self.line.fresh_bytes < GROUP_READ_AHEAD_BYTES
            and self.outstanding() < GROUP_OUTSTANDING
            and (self._abilities.log or self._free() > 0)
        )

    def _fetch(self, now: Now) -> None:
        if not self._reading.behind or not self._may_read():
            return
        position = self._reading.start(now)
        if position is not None:
            room = GROUP_READ_AHEAD_BYTES - self.line.fresh_bytes
            self._out.append(fx.Fetch(position, room))

    def _on_fetch_done(self, message: msg.FetchDone, now: Now) -> None:
        self._reading.ended(message.fetched, now)
        if message.fetched is not None:
            for stored in message.fetched.runs:
                self._accept(stored, now)

    def _accept(self, stored: Stored, now: Now) -> None:
        run = Run(stored.batch, stored.index, stored.count, stored.attempts, stored.lost)
        if stored.not_before > now.wall:
            self.line.delay(run, now.mono + stored.not_before - now.wall)
        elif stored.attempts:
            self.line.redeliver(run, alone=retry.suspect(run, self.options))
        else:
            self.line.append(run)

    def _give_back(self, now: Now) -> None:
        """Let go of what nobody takes, so that memory stays flat and no broker hoards."""
        if self._offers:
            return
        if self.members.subscribed() == 0:
            self._stuck_since = None
            if not self._nothing_to_give_back():
                self._release(self.line.clear())
        elif self._abilities.return_after_ms is not None:
            self._give_back_unwanted(now, self._abilities.return_after_ms)

    def _nothing_to_give_back(self) -> bool:
        if not self._abilities.log:
            # a release ends a waiting fetch too
            return self.line.empty() and not self._reading.fetching
        # a log is read again from its first unsettled event: that waits for what is under way
        under_way = self.leases.count or self._endings.letters.count or self._moving
        return bool(self.line.empty() or under_way or self._reading.fetching)

    def _give_back_unwanted(self, now: Now, patience: int) -> None:
        """What is still in hand after a round of offers has found no window."""
        if not self.line.ready():
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = now.mono
        elif now.mono - self._stuck_since >= patience:
            self._stuck_since = None
            self._release(self.line.clear_ready())

    def _release(self, runs: list[Run]) -> None:
        self._reading.releasing = True
        self._out.append(fx.GiveBack(tuple((run.position, run.count) for run in runs)))

    def _on_released(self, message: msg.Released, _now: Now) -> None:
        self._reading.released(message.position)

    def _on_evict(self, message: msg.Evict, now: Now) -> None:
        for run, due in self.line.evict(message.positions, now.mono):
            wait = due - now.mono
            self._moving[run.position] = (run, due)
            not_before = now.wall + wait if wait > 0 else 0
            attempt = Attempt(run.position, run.attempts, run.lost, not_before)
            self._out.append(fx.MoveEvent(attempt))

    def _on_move_done(self, message: msg.MoveDone, _now: Now) -> None:
        run, due = self._moving.pop(message.position)
        if message.moved:
            return
        if run.attempts:
            self.line.delay(run, due)
        else:
            self.line.put_back(run)

    # --- the rest -----------------------------------------------------------------------------

    def _on_configure(self, message: msg.Configure, _now: Now) -> None:
        self.options = self._endings.options = message.options

    def _on_shut(self, _message: msg.Shut, _now: Now) -> None:
        self._shut = True

    def _on_tick(self, _message: msg.Tick, _now: Now) -> None:
        self._timer = None

    def busy(self) -> bool:
        """Whether there is anything that a sleep would interrupt."""
        return bool(len(self.members) or self.outstanding() or self._reading.busy())

    def _sleepy(self, now: Now) -> bool:
        if self.busy():
            self._quiet_since = None
            return False
        if self._quiet_since is None:
            self._quiet_since = now.mono
        if now.mono - self._quiet_since < SLEEP_AFTER_MS:
            return False
        self._quiet_since = now.mono
        return True

    def _set_timer(self, now: Now) -> None:
        # a timer that goes off too early costs one tick; moving it each turn costs more
        if self._timer is not None and self._nothing_before(self._timer, now):
            return
        at = min((time for time in self._times(now) if time is not None), default=None)
        if at is not None and (self._timer is None or at < self._timer):
            self._timer = at
            self._out.append(fx.SetTimer(at))

    def _nothing_before(self, at: int, now: Now) -> bool:
        """Whether only leases and the end of the quiet could need the timer, and none before this.

        So it is in most turns.
        """
        return (
            (self._quiet_since is None or self._quiet_since + SLEEP_AFTER_MS >= at)
            and self._stuck_since is None
            and self._reading.retry_at(now) is None
            and self.line.next_due() is None
            and self._endings.letters.next_due() is None
            and self.leases.none_before(at)
        )

    def _times(self, now: Now) -> Iterator[int | None]:
        """When there is something to do."""
        yield self.leases.next_deadline()
        yield self.line.next_due()
        yield self._endings.letters.next_due()
        yield self._reading.retry_at(now)
        if self._stuck_since is not None and self._abilities.return_after_ms is not None:
            # not in the past: while an offer or a release is under way it has to wait
            yield max(self._stuck_since + self._abilities.return_after_ms, now.mono + 100)
        if self._quiet_since is not None:
            yield self._quiet_since + SLEEP_AFTER_MS

    def _tell_tally(self) -> None:
        self.tally.in_flight = self.leases.count
        self.tally.delayed = self.line.held()


_HANDLERS: dict[type[msg.Message], Callable[..., None]] = {
    msg.Attach: GroupState._on_attach,
    msg.Room: GroupState._on_room,
    msg.Leave: GroupState._on_leave,
    msg.Detach: GroupState._on_detach,
    msg.Taken: GroupState._on_taken,
    msg.Settle: GroupState._on_settle,
    msg.Extend: GroupState._on_extend,
    msg.Configure: GroupState._on_configure,
    msg.Shut: GroupState._on_shut,
    msg.Notice: GroupState._on_notice,
    msg.FeedOpen: GroupState._on_feed_open,
    msg.FetchDone: GroupState._on_fetch_done,
    msg.Released: GroupState._on_released,
    msg.Evict: GroupState._on_evict,
    msg.MoveDone: GroupState._on_move_done,
    msg.DeadLetterDone: GroupState._on_letter_done,
    msg.Tick: GroupState._on_tick,
}
