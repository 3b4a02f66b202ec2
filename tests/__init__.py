"""The tests of zmqtasks; CONTRIBUTING.md tells how they are arranged."""
