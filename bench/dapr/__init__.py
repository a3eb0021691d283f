"""The Dapr door beside servers that do nothing: what the door adds to its own server and SDK."""
