"""The parts of a check: small objects, packs, snapshots; what they find; and what a check has to remember."""
