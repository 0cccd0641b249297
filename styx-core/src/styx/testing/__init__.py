"""The public test kit: a cloud in memory, the driver conformance suite, and what both stand on.

Nothing here is imported by Styx itself. `conformance` needs pytest; everything else needs only Styx.
"""
