"""A Penstock sink: a folder of a WebDAV server."""
