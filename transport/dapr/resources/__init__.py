"""Dapr's resource files: components, subscriptions and resiliency policies as values."""
