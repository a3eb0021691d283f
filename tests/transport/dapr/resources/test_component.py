"""Component files: stores, policies and secrets."""

import pytest

from actors.access import Access, Policy
from tests.transport.dapr.resources.kit import Folder, component_of, component_text
from transport.stores import open_store
from transport.stores.rabbitmq.config import parse as parse_rabbitmq

MEMORY, SQLITE, RABBITMQ = "pubsub.in-memory", "pubsub.sqlite", "pubsub.rabbitmq"
AMQP = "connectionString: amqp://rabbit"


# --- types ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "entries", "store"),
    [
        (MEMORY, [], "memory:"),
        (MEMORY, ["retain: 7d"], "memory:?retain=7d"),
        (SQLITE, ["path: /var/lib/a b?.db"], "sqlite:/var/lib/a%20b%3F.db"),
        (SQLITE, ["connectionString: a.db", "retain: 1h"], "sqlite:a.db?retain=1h"),
        (RABBITMQ, ["connectionString: amqp://u:p@h:1/v"], "amqp://u:p@h:1/v?interop=dapr"),
        (RABBITMQ, ["host: amqps://h?cafile=/x"], "amqps://h?cafile=/x&interop=dapr"),
        (RABBITMQ, [AMQP, "interop: none"], "amqp://rabbit"),
        (RABBITMQ, ["connectionString: amqp://h?interop=dapr"], "amqp://h?interop=dapr"),
        (RABBITMQ, ["hostname: h"], "amqp://h?interop=dapr"),
        (
            RABBITMQ,
            ["protocol: amqps", "hostname: h:5671", "username: me", "password: 'p/@ x'"],
            "amqps://me:p%2F%40%20x@h:5671?interop=dapr",
        ),
        (RABBITMQ, ["hostname: h", "port: 1234", "username: me"], "amqp://me@h:1234?interop=dapr"),
    ],
)
def test_a_type_is_a_store(folder: Folder, kind: str, entries: list[str], store: str) -> None:
    component = component_of(folder, kind, *entries)
    assert (component.name, component.store) == ("orders", store)
    assert component.place == f"{folder.path}/resource.yaml:1"


@pytest.mark.parametrize("entries", [[], ["connectionString: amqp://u:p@h:1/v"]])
def test_the_urls_are_such_as_the_stores_take(folder: Folder, entries: list[str]) -> None:
    if entries:
        assert parse_rabbitmq(component_of(folder, RABBITMQ, *entries).store).interop
    else:
        open_store(component_of(folder, SQLITE, f"path: {folder.path}/a b?.db").store)


def test_an_unknown_pubsub_type_names_those_that_exist(folder: Folder) -> None:
    assert folder.refusal(component_text("pubsub.kafka")) == (
        "5: spec.type 'pubsub.kafka' is unknown: "
        "use one of pubsub.in-memory, pubsub.rabbitmq, pubsub.sqlite"
    )


@pytest.mark.parametrize("kind", ["state.redis", "bindings.cron", "secretstores.local.file"])
def test_components_that_are_no_pubsub_are_skipped_with_a_warning(
    folder: Folder, kind: str
) -> None:
    assert folder.load(component_text(kind, "x: y")).components == ()
    assert folder.warnings(component_text(kind)) == [
        f"1: component orders of type {kind} is skipped"
    ]


def test_an_unknown_version_of_a_type_is_refused(folder: Folder) -> None:
    text = component_text(MEMORY).replace("spec:", "spec:\n  version: v7")
    assert folder.refusal(text) == "5: spec.version of pubsub.in-memory must be v1, not 'v7'"


def test_a_name_that_fits_no_path_is_refused(folder: Folder) -> None:
    text = component_text(MEMORY).replace("orders", "a/b")
    assert folder.refusal(text).startswith("1: Component a/b: a component's name must be")


def test_sqlite_needs_a_path(folder: Folder) -> None:
    assert folder.refusal(component_text(SQLITE)) == (
        "1: Component orders: pubsub.sqlite needs path (or connectionString) in spec.metadata"
    )


def test_rabbitmq_needs_an_address(folder: Folder) -> None:
    assert folder.refusal(component_text(RABBITMQ, "username: me")) == (
        "1: Component orders: pubsub.rabbitmq needs connectionString or hostname in spec.metadata"
    )


def test_a_connection_string_that_is_no_url_is_not_shown(folder: Folder) -> None:
    refusal = folder.refusal(component_text(RABBITMQ, "connectionString: u:secret@h"))
    assert refusal == "7: connectionString must be an URL as amqp://USER:PASSWORD@HOST:PORT/VHOST"


# --- entries ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "warning"),
    [
        ("durable: false", "durable=false is ignored: exchanges and queues are always durable"),
        ("deletedWhenUnused: 'true'", "deletedWhenUnused=true is ignored: exchanges and queues "),
        ("autoAck: true", "autoAck=true is ignored: events are always acknowledged after"),
        ("requeueInFailure: false", "requeueInFailure=false is ignored: what failed is always"),
        ("publisherConfirm: 0", "publisherConfirm=0 is ignored: publishes are always confirmed"),
        ("enableDeadLetter: true", "enableDeadLetter=true is ignored: name deadLetterTopic"),
        ("deliveryMode: 1", "deliveryMode=1 is ignored: messages are always persistent"),
        ("maxLen: 10", "maxLen is ignored: queues are not bounded"),
        ("reconnectWait: 5", "reconnectWait is ignored: the store has a back-off of its own"),
        ("colour: red", "colour is unknown to pubsub.rabbitmq here and ignored"),
    ],
)
def test_what_is_ignored_is_warned_of_by_name(folder: Folder, entry: str, warning: str) -> None:
    (found,) = folder.warnings(component_text(RABBITMQ, AMQP, entry))
    assert found.startswith(f"9: {warning}")


def test_what_holds_anyway_is_not_warned_of(folder: Folder) -> None:
    entries = (
        "durable: true",
        "deletedWhenUnused: false",
        "autoAck: false",
        "requeueInFailure: true",
        "publisherConfirm: true",
        "enableDeadLetter: no",
        "deliveryMode: 2",
        "exchangeKind: fanout",
        "consumerID: '{appID}'",
        "prefetchCount: 0",
        "concurrencyMode: parallel",
        "saslExternal: false",
    )
    assert folder.warnings(component_text(RABBITMQ, AMQP, *entries)) == []


@pytest.mark.parametrize(
    ("entry", "refusal"),
    [
        ("exchangeKind: topic", "exchangeKind must be fanout, not 'topic'"),
        ("saslExternal: true", "saslExternal is not supported"),
        ("caCert: abc", "caCert can't be given here: name files in connectionString"),
        ("durable: perhaps", "durable must be true or false, not 'perhaps'"),
        ("deliveryMode: 3", "deliveryMode must be an integer from 0 to 2, not '3'"),
        ("prefetchCount: many", "prefetchCount must be an integer from 0 to 65535, not 'many'"),
        ("prefetchCount: 65536", "prefetchCount must be an integer from 0 to 65535, not '65536'"),
        ("concurrencyMode: two", "concurrencyMode must be parallel or single, not 'two'"),
        ("ttlInSeconds: soon", "ttlInSeconds must be seconds or a duration"),
        ("ttlInSeconds: 0", "ttlInSeconds must be seconds or a duration"),
        ("consumerID: group", "consumerID can't be chosen: the app ID names the group"),
        ("consumerID: '{uuid}'", "consumerID has the template {uuid}, which is not supported"),
        ("clientName: '{namespace}'", "clientName has the template {namespace}, which is not"),
        ("clientName: '{appID}'", "clientName has the template {appID}, which is not supported"),
        ("interop: maybe", "interop must be dapr or none, not 'maybe'"),
        ("ConnectionString: amqp://b", "ConnectionString stands there twice"),
        ("publishingScopes: app1", "publishingScopes has an entry 'app1' that is not APP=TOPIC"),
        ("subscriptionScopes: =t", "subscriptionScopes has an entry '=t' that is not APP=TOPIC"),
    ],
)
def test_what_can_be_neither_honoured_nor_ignored_is_refused_by_name(
    folder: Folder, entry: str, refusal: str
) -> None:
    found = folder.refusal(component_text(RABBITMQ, AMQP, entry))
    assert found.startswith(f"9: {refusal}")


def test_an_entry_of_a_wrong_shape_is_refused(folder: Folder) -> None:
    text = component_text(RABBITMQ, "durable: [true]")
    assert folder.refusal(text) == "8: spec.metadata[0].value must be text, not a list"
    text = component_text(MEMORY).replace("metadata: []", "metadata: {a: b}")
    assert folder.refusal(text) == "6: spec.metadata must be a list, not a map"


# --- policies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "policy"),
    [
        ("ttlInSeconds: 60", Policy(ttl_ms=60_000)),
        ("ttlInSeconds: 1m30s", Policy(ttl_ms=90_000)),
        ("prefetchCount: 10", Policy(max_in_flight=10)),
        ("concurrencyMode: single", Policy(max_in_flight=1)),
        ("concurrency: single", Policy(max_in_flight=1)),
        ("allowedTopics: a, b", Policy(access=Access(allowed=frozenset("ab")))),
        ("protectedTopics: a,b", Policy(access=Access(protected=frozenset("ab")))),
        (
            "publishingScopes: app1=a, b;app2=;app1=c",
            Policy(access=Access(publishing={"app1": frozenset("abc"), "app2": frozenset()})),
        ),
        (
            "subscriptionScopes: app1=a;",
            Policy(access=Access(subscription={"app1": frozenset("a")})),
        ),
        ("allowedTopics: ''", Policy()),
    ],
)
@pytest.mark.parametrize("kind", [MEMORY, RABBITMQ])
def test_policies_are_the_same_for_every_type(
    folder: Folder, kind: str, entry: str, policy: Policy
) -> None:
    entries = [entry] if kind == MEMORY else [AMQP, entry]
    assert component_of(folder, kind, *entries).policy == policy


def test_scopes_are_the_apps_that_may_use_it(folder: Folder) -> None:
    assert component_of(folder, MEMORY).scopes == frozenset()
    found = component_of(folder, MEMORY, scopes="[shop, audit]")
    assert found.scopes == frozenset({"shop", "audit"})


# --- secrets ----------------------------------------------------------------------------------

SECRET = component_text(RABBITMQ, "hostname: h", "username: me") + "auth: {secretStore: env}\n"
REFERENCE = "  - name: password\n    secretKeyRef: {name: PASSWORD, key: PASSWORD}\n"
STORE = component_text("secretstores.local.env").replace("orders", "env")


def with_password(entry: str, text: str = SECRET) -> str:
    return text.replace("auth:", f"{entry}auth:")


def test_a_secret_comes_from_the_environment(folder: Folder) -> None:
    folder.environment = {"PASSWORD": "s3cret"}
    (found,) = folder.load(f"{with_password(REFERENCE)}---\n{STORE}").components
    assert found.store == "amqp://me:s3cret@h?interop=dapr"


def test_the_secret_stores_prefix_is_put_before_the_name(folder: Folder) -> None:
    folder.environment = {"APP_PASSWORD": "s3cret"}
    prefixed = component_text("secretstores.local.env", "prefix: APP_").replace("orders", "env")
    (found,) = folder.load(f"{prefixed}---\n{with_password(REFERENCE)}").components
    assert found.store == "amqp://me:s3cret@h?interop=dapr"


def test_env_ref_needs_no_secret_store(folder: Folder) -> None:
    folder.environment = {"PASSWORD": "s3cret"}
    entry = "  - name: password\n    envRef: PASSWORD\n"
    (found,) = folder.load(with_password(entry)).components
    assert found.store == "amqp://me:s3cret@h?interop=dapr"


def test_a_variable_that_is_not_set_is_named(folder: Folder) -> None:
    text = f"{with_password(REFERENCE)}---\n{STORE}"
    assert folder.refusal(text) == (
        "12: spec.metadata[2].secretKeyRef wants the environment variable PASSWORD, "
        "which is not set"
    )


def test_another_secret_store_is_refused_by_name(folder: Folder) -> None:
    assert folder.refusal(with_password(REFERENCE)) == (
        "12: spec.metadata[2].secretKeyRef of password wants secret store 'env': let "
        "auth.secretStore name a component of type secretstores.local.env, or use envRef"
    )


def test_a_secret_is_never_shown(folder: Folder) -> None:
    folder.environment = {"DURABLE": "s3cret"}
    entry = "  - name: durable\n    envRef: DURABLE\n"
    assert folder.refusal(with_password(entry)) == "11: durable must be true or false, not a secret"
