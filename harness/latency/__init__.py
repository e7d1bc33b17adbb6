"""Probes, component timing, telemetry."""
