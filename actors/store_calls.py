"""What a group's turn has for its feed: one call to settle, one for histories. Pure."""

from actorbus.store import Attempt
from actors import effects as fx
from actors.messages import Run


class StoreCalls:
    """Collects what is settled and which attempts have ended, and who waits for it."""

    def __init__(self) -> None:
        self._settled: list[tuple[int, int]] = []
        self._settle_answers: list[fx.Answer] = []
        self._attempts: list[Attempt] = []
        self._attempt_answers: list[fx.Answer] = []

    def settle(self, run: Run, answer: fx.Answer | None) -> None:
        """These events are done with; `answer` waits until that is durable."""
        self._settled.append((run.position, run.count))
        _wait(answer, self._settle_answers)

    def record(self, run: Run, not_before: int, answer: fx.Answer | None) -> None:
        """These events have this history; `answer` waits until that is durable."""
        self._attempts += [
            Attempt(position, run.attempts, run.lost, not_before)
            for position in range(run.position, run.end)
        ]
        _wait(answer, self._attempt_answers)

    def flush(self) -> list[fx.Effect]:
        """The calls to make."""
        calls: list[fx.Effect] = []
        if self._attempts:
            calls.append(fx.RecordAttempts(tuple(self._attempts), tuple(self._attempt_answers)))
            self._attempts, self._attempt_answers = [], []
        if self._settled:
            calls.append(fx.SettleRuns(tuple(self._settled), tuple(self._settle_answers)))
            self._settled, self._settle_answers = [], []
        return calls


def _wait(answer: fx.Answer | None, answers: list[fx.Answer]) -> None:
    if answer is not None and not (answers and answers[-1] is answer):
        answer.waits += 1
        answers.append(answer)
