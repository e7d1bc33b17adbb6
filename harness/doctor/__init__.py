"""Preflight checks, one function per known failure."""
