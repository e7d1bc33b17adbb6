"""Latency of devices that are not at hand, and published figures."""
