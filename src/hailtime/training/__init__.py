"""A prepared folder in, a run folder out: features, networks, the loop."""
