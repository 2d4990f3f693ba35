"""Raw trips in, a prepared folder out: clean, join, split, write."""
