"""Everything that knows PostgreSQL. It is imported, but opens nothing, where DATABASE_URL is not set."""
