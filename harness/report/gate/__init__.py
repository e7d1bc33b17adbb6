"""Comparisons, gates and nights: tables, and their renderings."""
