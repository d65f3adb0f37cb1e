"""Server-sent events: the changes of one call, and of all calls."""
