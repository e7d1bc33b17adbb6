"""What a training loop calls and writes: standard library only, because training imports it."""
