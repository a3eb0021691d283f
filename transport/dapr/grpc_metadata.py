"""What a door tells about itself, as `GetMetadata` has it."""

from dapr.proto.runtime.v1.metadata_pb2 import (
    GetMetadataResponse,
    PubsubSubscription,
    PubsubSubscriptionRule,
    PubsubSubscriptionRules,
    PubsubSubscriptionType,
    RegisteredComponents,
)

from actorbus.version import VERSION
from transport.dapr.metadata import CAPABILITIES, TYPE, Metadata, Subscribed


def metadata_response(metadata: Metadata, app_id: str) -> GetMetadataResponse:
    """The answer to an app."""
    return GetMetadataResponse(
        id=app_id,
        runtime_version=VERSION,
        registered_components=[
            RegisteredComponents(name=name, type=TYPE, version="v1", capabilities=CAPABILITIES)
            for name in metadata.components_of(app_id)
        ],
        extended_metadata=metadata.extended(app_id),
        subscriptions=[_subscription(one) for one in metadata.subscriptions(app_id)],
    )


def _subscription(subscribed: Subscribed) -> PubsubSubscription:
    return PubsubSubscription(
        pubsub_name=subscribed.component,
        topic=subscribed.topic,
        metadata=subscribed.metadata,
        rules=PubsubSubscriptionRules(
            rules=[
                PubsubSubscriptionRule(match=rule.match, path=rule.path)
                for rule in subscribed.rules
            ]
        ),
        dead_letter_topic=subscribed.dead_letter_topic,
        type=PubsubSubscriptionType.Value(subscribed.kind),
    )
