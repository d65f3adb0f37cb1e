"""Receives VAPI's call webhooks, merges them in Redis and answers polls for the result."""

from typing import Final

__version__: Final = "0.2.0"
