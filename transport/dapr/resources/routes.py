"""Where an event goes within an app: rules in CEL, in order, then a default path.

The language is Google's Common Expression Language, evaluated by its C++ implementation
(`cel-expr-python`): it checks types when a rule is compiled, bounds recursion and iterations, and
its regular expressions (RE2) take linear time, so that neither a rule nor an event can hold up the
loop for long.
"""

import base64
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import msgspec
from cel_expr_python import cel

from actorbus.errors import ActorbusError
from actorbus.quote import quote

EXACT: Final = 2**53
"""Integers beyond are not exact as floats and are left as they are."""


class RuleError(ActorbusError):
    """A rule is no CEL expression over `event` that yields a boolean."""


class RouteError(ActorbusError):
    """A rule could not be evaluated for an event: a failed delivery, not a rule without match."""


class Match:
    """A compiled rule.

    Args:
        source: the CEL expression; it sees the event as `event`.

    Raises:
        RuleError: `source` can't be compiled, or does not yield a boolean.
    """

    __slots__ = ("_program", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        try:
            self._program = _environment().compile(source)
        except RuntimeError as error:
            raise RuleError(f"rule {quote(source)} is no CEL: {_reason(error)}") from None
        kind = self._program.return_type()
        if kind not in (cel.Type.BOOL, cel.Type.DYN):
            raise RuleError(f"rule {quote(source)} yields {kind.name().lower()}, not a boolean")

    def __repr__(self) -> str:
        return f"Match({self.source!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Match) and other.source == self.source

    def __hash__(self) -> int:
        return hash(self.source)

    def matches(self, event: Mapping[str, Any]) -> bool:
        """Whether the rule holds for an event, as `seen_by_rules` gives it.

        Raises:
            RouteError: it can't be evaluated (a missing key without `has`, wrong types…), or
                does not yield a boolean.
        """
        try:
            result = self._program.eval(data={"event": event})
        except RuntimeError as error:
            raise RouteError(f"rule {quote(self.source)} failed: {_reason(error)}") from None
        value = result.value()
        if result.type() == cel.Type.BOOL:
            return bool(value)
        if result.type() == cel.Type.ERROR:
            raise RouteError(f"rule {quote(self.source)} failed: {_reason(value)}")
        raise RouteError(f"rule {quote(self.source)} yields {quote(value)}, not a boolean")


class Rule(msgspec.Struct, frozen=True):
    """One rule of a subscription.

    Attributes:
        path: of the app's route.
        match: when it applies; None: always.
    """

    path: str
    match: Match | None = None


class Routes(msgspec.Struct, frozen=True):
    """The rules of a subscription, in order, and the path for what none of them matches.

    Attributes:
        default: None: such events are none of the app's business.
    """

    rules: tuple[Rule, ...] = ()
    default: str | None = None

    def route(self, event: Mapping[str, Any]) -> str | None:
        """The path for an event (a CloudEvent as a map); None if no rule matches.

        Raises:
            RouteError: a rule could not be evaluated.
        """
        seen = None
        for rule in self.rules:
            if rule.match is None:
                return rule.path
            if seen is None:
                seen = seen_by_rules(event)
            if rule.match.matches(seen):
                return rule.path
        return self.default

    def paths(self) -> tuple[str, ...]:
        """Every path that an event may be sent to, each once."""
        default = () if self.default is None else (self.default,)
        return tuple(dict.fromkeys((*(rule.path for rule in self.rules), *default)))


def rule(match: str, path: str) -> Rule:
    """A rule as Dapr writes it: an empty `match` applies always.

    Raises:
        RuleError: `match` is no CEL expression over `event` that yields a boolean.
    """
    return Rule(path, Match(match) if match.strip() else None)


def seen_by_rules(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as Dapr's rules see it.

    Numbers are doubles, as in JSON read by Go (so `event.data.total * 1.1` works for 100 too);
    integers that a double can't hold stay exact. Binary data is base64 in `data_base64`.
    """
    seen = {name: _number(value) for name, value in event.items()}
    data = event.get("data")
    if isinstance(data, bytes):
        del seen["data"]
        seen["data_base64"] = base64.b64encode(data).decode()
    return seen


def _number(value: Any) -> Any:
    match value:
        case int() if not isinstance(value, bool) and abs(value) <= EXACT:
            return float(value)
        case dict():
            return {name: _number(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_number(inner) for inner in value]
    return value


@cache
def _environment() -> cel.Env:
    return cel.NewEnv(variables={"event": cel.Type.Map(cel.Type.STRING, cel.Type.DYN)})


def _reason(error: object) -> str:
    """The first line of what CEL says, without its codes."""
    line = str(error).partition("\n")[0].partition(" [")[0]
    return line.removeprefix("INVALID_ARGUMENT: ").removeprefix("ERROR: <input>:")[:160]
