"""Everything that keeps something: Redis by URL, the merge, the change feed."""
