"""What several parts of the client share: its own error code, and a deadline."""

from typing import Final

NO_ANSWER: Final = "timeout"
"""The client's own code of `UnavailableError`: no answer came in time."""

CONFIRM_SECONDS: Final = 30.0
"""How long an acknowledgement may take to become durable; a store call takes 10 s at most."""
