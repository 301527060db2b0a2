"""Tests of one part against real servers."""
