"""The scheduler daemon: `daemon` is the loop and decides nothing, `core` decides everything and does no I/O."""
