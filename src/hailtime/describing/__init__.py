"""An unknown table looked at: what its columns seem to be, a first yaml for it, and a page (`scripts/describe.py`)."""
