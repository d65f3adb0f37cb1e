"""The command line: one file per command, and the client of the service's own API that they share."""
