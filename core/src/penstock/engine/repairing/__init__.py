"""The parts of a repair: what snapshots need, mended; what is lost all the same; what is said of it."""
