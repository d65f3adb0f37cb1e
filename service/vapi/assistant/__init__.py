"""The assistant that makes the calls, as data."""
