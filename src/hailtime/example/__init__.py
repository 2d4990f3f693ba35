"""A small ride-hailing backend around the client, the city that plays against it, and the story of both (`make live`)."""
