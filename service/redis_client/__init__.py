"""Commands to Redis over any topology. Knows nothing of calls."""
