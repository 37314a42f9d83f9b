"""A Penstock source: one Redis server, with all of its databases."""
