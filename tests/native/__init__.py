"""The compiled core against the Python that it stands in for."""
