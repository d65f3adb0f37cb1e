"""What outlives the request that began it: placing, reconciling, resuming, and what the clock changes."""
