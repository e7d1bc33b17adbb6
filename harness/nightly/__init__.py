"""A nightly gate: one ledger a night, judged against the accepted baseline."""
