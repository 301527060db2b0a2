"""`python -m projector`."""

from projector.cli import main

main()
