import time

import pytest

from transport.dapr.resources.routes import RouteError, Routes, Rule, RuleError, rule

ORDER = {
    "id": "e1",
    "source": "shop",
    "type": "order.v2",
    "specversion": "1.0",
    "data": {"n": 3, "total": 100, "big": 2**63, "tags": ["new"], "note": None, "paid": True},
}


def routed(*rules: tuple[str, str], default: str | None = None) -> str | None:
    return Routes(tuple(rule(match, path) for match, path in rules), default).route(ORDER)


def refusal(expression: str) -> str:
    with pytest.raises(RuleError) as caught:
        rule(expression, "/x")
    return caught.value.message


def failure(expression: str) -> str:
    with pytest.raises(RouteError) as caught:
        Routes((rule(expression, "/x"),)).route(ORDER)
    return caught.value.message


@pytest.mark.parametrize(
    "expression",
    [
        'event.type == "order.v2"',
        'event.type.startsWith("order.") && event.data.n > 2',
        "event.data.n == 3",
        "event.data.n in [1, 3]",
        "has(event.data.n) && !has(event.data.missing) && !has(event.subject)",
        'event.data.tags.exists(tag, tag == "new")',
        'event.type.matches("^order\\\\.v[0-9]+$")',
        "event.data.note == null && event.data.paid",
        "event.data.big == 9223372036854775808u",
        'event.missing == "x" || event.data.paid',
    ],
)
def test_expressions_hold_as_in_dapr(expression: str) -> None:
    assert routed((expression, "/yes"), default="/no") == "/yes"


def test_numbers_are_doubles_as_in_dapr() -> None:
    assert routed(("event.data.total * 1.1 > 100.0", "/yes")) == "/yes"


def test_an_integer_that_no_double_holds_stays_exact() -> None:
    event = {"data": 2**53 + 1}
    expression = f"event.data == {2**53 + 1}"
    assert Routes((rule(expression, "/exact"),)).route(event) == "/exact"


def test_binary_data_is_base64_text() -> None:
    expression = 'event.data_base64 == "AP8=" && !has(event.data)'
    assert Routes((rule(expression, "/binary"),)).route({"data": b"\x00\xff"}) == "/binary"


def test_the_first_rule_that_matches_wins() -> None:
    assert routed(("event.data.n > 5", "/a"), ("event.data.n > 2", "/b"), ("true", "/c")) == "/b"


def test_a_rule_without_match_applies_always() -> None:
    assert routed(("", "/a"), ("true", "/b")) == "/a"
    assert rule("  ", "/a") == Rule("/a")


def test_what_no_rule_matches_goes_to_the_default() -> None:
    assert routed(("event.data.n > 5", "/a"), default="/d") == "/d"


def test_without_a_default_it_goes_nowhere() -> None:
    assert routed(("event.data.n > 5", "/a")) is None


def test_a_missing_key_is_a_failure_and_no_missing_match() -> None:
    assert failure('event.subject == "x"').endswith('Key not found in map : "subject"')


def test_an_expression_that_yields_no_boolean_is_a_failure() -> None:
    assert failure("event.type") == "rule 'event.type' yields 'order.v2', not a boolean"


def test_wrong_types_are_a_failure() -> None:
    assert "No matching overloads" in failure("event.data.n > event.type")


def test_a_syntax_error_is_refused_when_the_rule_is_made() -> None:
    assert refusal("event.type ==").startswith("rule 'event.type ==' is no CEL: 1:14: Syntax error")


def test_an_unknown_variable_is_refused_when_the_rule_is_made() -> None:
    assert "undeclared reference to 'data.n'" in refusal("data.n == 1")


def test_a_rule_that_can_yield_no_boolean_is_refused_when_it_is_made() -> None:
    assert refusal('"a" + "b"') == 'rule \'"a" + "b"\' yields string, not a boolean'


def test_a_rule_that_would_never_end_is_a_failure_soon() -> None:
    loops = "event.l.all(x, event.l.all(y, event.l.all(z, x + y + z >= 0.0)))"
    begun = time.monotonic()
    with pytest.raises(RouteError, match="budget"):
        Routes((rule(loops, "/x"),)).route({"l": list(range(300))})
    assert time.monotonic() - begun < 5


def test_a_rule_that_is_nested_too_deep_is_refused() -> None:
    assert "recursion limit" in refusal("(" * 5000 + "true" + ")" * 5000)


def test_every_path_is_told_once() -> None:
    routes = Routes((rule("true", "/a"), rule("", "/b")), "/a")
    assert routes.paths() == ("/a", "/b")
