"""Policies and their registry."""
