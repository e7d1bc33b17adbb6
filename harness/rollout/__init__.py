"""One episode: simulator × policy × control clock."""
