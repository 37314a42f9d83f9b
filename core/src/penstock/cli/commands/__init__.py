"""One module a command. Each has `register(app)` and imports what it works with only when it is called."""
