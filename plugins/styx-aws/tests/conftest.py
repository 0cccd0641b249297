"""A simulated EC2 for one test module, and drivers of it."""

import pytest

from styx.testing.clock import ManualClock
from styx.testing.contexts import STORE, make_context
from styx.testing.emulator import plain_client
from styx_aws import Aws, AwsConfig
from tests.simcloud.ec2 import KEY_ID, SECRET, Ec2

KEYS = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}


@pytest.fixture(scope="module")
def server():
    with Ec2(clock=ManualClock()) as aws:
        yield aws


@pytest.fixture
def aws(server):
    """Empty, and quick: what is asked for is there at once unless a test says otherwise."""
    server.boot_s = server.stop_s = server.terminate_s = server.listing_lag_s = 0.0
    server.page_size = 1000
    server.reset()
    return server


@pytest.fixture
def make(aws, tmp_path):
    """Makes drivers: `make(private_ips=True)`, `make(secrets={...})`."""

    def driver(*, store=STORE, secrets=None, **settings):
        config = AwsConfig(**{"regions": ("us-east-1",), "price_endpoint": aws.url, **settings})
        known = {
            "AWS_ENDPOINT_URL": aws.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            **(KEYS if secrets is None else secrets),
        }
        return Aws(
            make_context(tmp_path, config=config, store=store, secrets=known, clock=aws.clock, http=plain_client)
        )

    return driver
