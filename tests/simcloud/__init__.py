"""Vendors' clouds on loopback, built from their published documents; with real hosts behind the machines, if asked."""
