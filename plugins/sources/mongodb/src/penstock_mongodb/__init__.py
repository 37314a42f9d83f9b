"""MongoDB deployments as a source of Penstock."""
