"""The client of Kestra's REST API."""
