"""Ways to a node: a channel for commands and bytes, whatever carries it."""
