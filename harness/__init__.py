"""vla-harness: benchmarking of vision-language-action policies."""
