"""The broker's edges: the WebSocket server, the stores, the composition root, the command line."""
