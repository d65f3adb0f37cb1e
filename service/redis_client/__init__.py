"""Sends commands to Redis over any topology. Knows nothing about calls."""
