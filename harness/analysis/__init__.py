"""Statistics over ledgers: pure functions of data frames."""
