"""`python -m embrepro.cli`."""

from embrepro.cli import main

main()
