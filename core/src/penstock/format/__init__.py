"""Format version 1: pure bytes in, bytes out, no I/O. `docs/format.md` specifies every byte of it."""
