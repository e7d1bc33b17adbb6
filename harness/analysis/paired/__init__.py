"""Two checkpoints on the same episodes: pairing, exact tests, power, sequential evidence, attribution."""
