"""Contracts: suites, protocols, policies, hardware profiles, observations."""
