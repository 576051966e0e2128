"""What Hydra finds of the kit: it looks for plugins in this namespace package, in `embrepro` and in `dvc` alike."""

from embrepro.config.conf_files import ConfSearchPath, ConfSource

__all__ = ["ConfSearchPath", "ConfSource"]
