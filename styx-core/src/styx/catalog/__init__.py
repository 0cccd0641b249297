"""What can be bought: the schema, the cache of all clouds' rows, and the questions it answers."""
