"""Imported, it has this process end with its parent: the first thing that a fork server loads, before what takes seconds."""

from embrepro.progress import processes

processes.die_with_parent()
