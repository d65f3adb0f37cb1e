"""The data of a call: its record, its statuses and its facts. No I/O."""
