"""PostgreSQL databases as a source of Penstock."""
