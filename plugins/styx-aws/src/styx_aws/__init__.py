"""Amazon EC2 for Styx."""

from styx_aws.driver import Aws, AwsConfig

__all__ = ["Aws", "AwsConfig"]
