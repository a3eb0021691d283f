"""The Dapr door: Dapr's pub/sub APIs over HTTP and gRPC, in front of the broker's topics.

It is a client of the broker, whether it runs in the broker's process (`serve --dapr-http-port`) or
beside an app (`sidecar`). What only the extra `dapr` installs is imported below this package alone.
"""
