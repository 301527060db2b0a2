"""What one asks of a running daemon, its store and its database, and how answers are shown."""
