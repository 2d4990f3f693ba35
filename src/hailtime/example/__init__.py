"""A small ride-hailing backend, the city that plays against it, and the story of both (`make live`)."""
