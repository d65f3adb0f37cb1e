"""The command line: one file per command, and the API client that they share."""
