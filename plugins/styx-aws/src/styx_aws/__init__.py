"""Amazon EC2 for Styx."""

from styx_aws.config import AwsConfig
from styx_aws.driver import Aws

__all__ = ["Aws", "AwsConfig"]
