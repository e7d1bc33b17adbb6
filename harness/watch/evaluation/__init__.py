"""One checkpoint's evaluation: its process, and its share of a machine that trains."""
