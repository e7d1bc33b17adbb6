"""Simulators: exact and fast LIBERO, GL backends, the stub world."""
