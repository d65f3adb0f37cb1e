"""The configuration of the assistant that makes the calls."""
