"""Reading back: directories of packs, ranges of objects, the streams of a snapshot."""
