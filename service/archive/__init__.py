"""Everything that knows PostgreSQL. Without DATABASE_URL it is imported, but opens nothing."""
