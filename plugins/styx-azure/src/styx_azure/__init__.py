"""Azure virtual machines for Styx."""

from styx_azure.driver import Azure, AzureConfig

__all__ = ["Azure", "AzureConfig"]
