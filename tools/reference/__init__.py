"""Generates `docs/reference/` from the code, so that the pages cannot say anything else than the code does."""
