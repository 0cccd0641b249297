"""Lambda Cloud for Styx."""

from styx_lambda.driver import Lambda, LambdaConfig

__all__ = ["Lambda", "LambdaConfig"]
