"""What a writer knows of the repository: the local cache, the sparse index, and bringing both in step."""
