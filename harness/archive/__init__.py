"""What leaves the house: one file that a stranger can run again, and a card that the Hugging Face hub reads."""
