"""Everything that knows VAPI."""
