"""Imported, it begins a fork server: the first thing that one loads, before what takes seconds."""

from embrepro.progress import processes

processes.collect_rarely()
processes.die_with_parent()
