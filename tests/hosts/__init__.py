"""Real hosts: network namespaces, joined by cables that a test can pull, slow down or make lossy."""
