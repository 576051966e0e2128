"""Cases: what another version of a library does, run in an environment of its own, and the record of it."""
