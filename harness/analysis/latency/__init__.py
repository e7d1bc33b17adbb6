"""Latency from raw samples: percentiles, the line over NFE, floors, checks, and two ledgers side by side."""
