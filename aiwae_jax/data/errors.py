"""What is raised of data."""


class DataError(ValueError):
    """Data that is missing, corrupt or not what its name says; the message is one clear line."""
