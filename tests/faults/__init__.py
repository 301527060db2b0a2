"""Random faults under a random workload."""
