"""Rebuilds the prices that ship with a cloud's plugin from a hosted catalog file."""
