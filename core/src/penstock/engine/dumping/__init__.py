"""Writing the streams of one dump: one after another, or side by side."""
