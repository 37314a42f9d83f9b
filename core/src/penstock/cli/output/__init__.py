"""All that Penstock writes to the terminal: results on stdout, everything else on stderr."""
