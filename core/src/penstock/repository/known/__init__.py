"""What a writer knows of the repository: the local cache, the sparse index, and how both are brought in step."""
