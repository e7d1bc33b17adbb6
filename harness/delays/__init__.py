"""What a decision takes on a device, looked up before a run: ledger, prediction or publication in, arrays out."""

from harness.delays.lookup import resolve_sources, sources_of_suite

__all__ = ["resolve_sources", "sources_of_suite"]
