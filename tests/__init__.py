"""The tests: unit (no server), integration (real servers), acceptance (the whole daemon)."""
