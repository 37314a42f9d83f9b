"""One run of a writer: a session, streams into packs, and the commit."""
