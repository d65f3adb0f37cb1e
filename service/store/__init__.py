"""Everything that is stored: call records, subscriptions and counts in Redis, the change feed, the spool on disk."""
