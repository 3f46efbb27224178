"""Other people's models: where they are, how they are fetched, what went wrong."""
