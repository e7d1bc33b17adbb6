"""How long a run will take, where, at what cost: the scheduler's own rules in simulated time."""
