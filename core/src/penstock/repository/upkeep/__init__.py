"""What keeps a repository alive: locks on the objects that snapshots need."""
