"""What the evaluations of a training run say, for everybody who reads it."""
