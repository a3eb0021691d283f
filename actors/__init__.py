"""The broker's inside: topics, subscription groups and connected instances as actors.

Nothing in here knows a socket or a database: the transport package hands in a wire for each
connection and a store (`actorbus.store`).
"""
