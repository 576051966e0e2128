"""A repository of one's own: what `embrepro init` writes, what `embrepro upgrade` shows, what its stages depend on."""
