"""Apps of the tests, each a process of its own with one of the SDKs."""
