"""The sidecar: a Dapr door beside one app, which pushes the app's events to it."""
