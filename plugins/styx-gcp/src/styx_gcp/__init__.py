"""Google Compute Engine for Styx."""

from styx_gcp.driver import Gcp, GcpConfig

__all__ = ["Gcp", "GcpConfig"]
