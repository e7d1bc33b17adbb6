"""What has happened to each checkpoint, and which comes next."""
