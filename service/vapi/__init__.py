"""VAPI's webhooks, API and assistant."""
