"""Checkpoints in a training run's folder: which are there, which are whole, which step and which name they have."""
