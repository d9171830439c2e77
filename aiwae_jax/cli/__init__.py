"""The installed command: `aiwae fit` and `aiwae report`."""
