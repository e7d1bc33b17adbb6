"""Pure functions: episode keys, noise, units, order, retry."""
