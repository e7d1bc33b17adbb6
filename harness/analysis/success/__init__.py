"""Success rates with their uncertainty, and controls whose rate is known beforehand."""
