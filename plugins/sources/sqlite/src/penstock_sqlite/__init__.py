"""SQLite databases as a source of Penstock."""
