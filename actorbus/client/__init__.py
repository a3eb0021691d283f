"""The client library, for asyncio; apps import it from `actorbus` itself."""
