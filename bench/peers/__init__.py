"""The same work on actorbus and on its peers, side by side; see ../README.md."""
