"""What Styx remembers: one small store protocol, SQLite behind it."""
