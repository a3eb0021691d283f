"""The Dapr door: Dapr's APIs in front of the same topics and groups as WebSocket apps.

What it needs beyond the broker itself is installed by `pip install 'actorbus[dapr]'`, and imported
only below this package.
"""
