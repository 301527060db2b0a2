"""Decisions of the product made wrong one by one: each must fail a test, or nobody holds it.

    mutant     what a mutant is
    four       decisions that once passed all unit tests when they were inverted
    decisions  of the projection, of routes, lanes, the daemon, walks and leases
    kinds      for each kind of fault found in the field, its cure taken out
    running    a copy of the tree with one of them in it

`python -m tests.mutants` runs those that name what it is given, all without; `make test-mutants`.
"""
