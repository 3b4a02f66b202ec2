"""The submitter: `core` decides, `connection` is the loop, `client` and `tasks` are what people use."""
