"""Everything that knows Kestra."""
