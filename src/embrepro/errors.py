"""Errors of the kit: each says what was expected, what came and what to do about it."""


class KitError(Exception):
    """Base of every error the kit raises on purpose; the command line prints it without a traceback."""


class ConfigError(KitError):
    """A configuration value that is unknown, misspelt or out of range."""


class SourceError(KitError):
    """A model or data set that no source could serve, or whose bytes are not the expected ones."""


class TaskError(KitError):
    """A task that cannot be resolved, frozen or evaluated."""


class ReplayError(KitError):
    """An encode request that differs from the one that was listed when the data was frozen."""
