"""Dapr's official SDKs, unmodified, against brokers and sidecars as real processes."""
