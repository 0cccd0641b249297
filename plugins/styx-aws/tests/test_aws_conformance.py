"""AWS's driver passes the conformance suite against a simulated EC2 that takes its time, lags and pages."""

import json

import pytest

from styx.driver import Place
from styx.testing.clock import ManualClock
from styx.testing.conformance import STORE, DriverConformance, Fault, FaultKind, Harness, Truth
from styx.testing.contexts import make_context
from styx.testing.emulator import plain_client
from styx_aws import Aws, AwsConfig
from styx_aws.errors import ERRORS
from tests.simcloud.ec2 import KEY_ID, SECRET, Ec2


class Ec2Harness(Harness):
    """Machines come in launches of two, so that a gang of three can come in part."""

    error_table = ERRORS
    page_size = 2

    def __init__(self, home, aws, clients):
        self.credentials = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
        self.home, self.aws, self.clock = home, aws, aws.clock
        self.clients, self.known_rows = clients, None

    def driver(self, *, store=STORE, secrets=None, **settings):
        given = {"regions": ("us-east-1", "eu-west-1"), "spot_prices": False, "launch_size": 2, **settings}
        config = AwsConfig(price_endpoint=self.aws.url, **given)
        known = {
            "AWS_ENDPOINT_URL": self.aws.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            **(self.credentials if secrets is None else secrets),
        }
        driver = Aws(
            make_context(self.home, config=config, store=store, secrets=known, clock=self.clock, http=plain_client)
        )
        driver._clients._clients = self.clients  # connections: making them is most of a test's time
        return driver

    def rows(self, driver):
        self.known_rows = self.known_rows or list(super().rows(driver))
        return self.known_rows

    def place(self, driver):
        return next(iter(driver.check().places))

    def machines(self):
        return [truth(life) for life in self.aws.instances()]

    def plant_foreign(self, place: Place):
        near = {"styx-cluster": "styx-conform-else0101", "styx-rank": "0", "styx-store": f"{STORE}x", "team": "other"}
        return [self.aws.plant(), self.aws.plant(tags={**near, "Name": "styx-conform-else0101"})]

    def fail_next(self, fault: Fault):
        zones = 6  # a create asks zone after zone for want of capacity
        match fault.kind:
            case FaultKind.REFUSED:
                self.aws.faults.clear()
                self.aws.refuse("RunInstances", fault.code or "InsufficientInstanceCapacity", times=zones)
            case FaultKind.PARTIAL:
                self.aws.leave(fault.after)
            case FaultKind.LOST_REPLY:
                self.aws.lose_reply("RunInstances")
            case FaultKind.LATE:
                self.aws.doom = "Server.InsufficientInstanceCapacity"
            case FaultKind.LISTING:
                self.aws.refuse("DescribeInstances", "InternalError", status=500)

    def advance(self, seconds: float):
        self.clock.advance(seconds)

    def remains(self):
        return [thing for thing in self.aws.things() if not thing.startswith("disk")]

    def request_lines(self):
        return self.aws.lines


def truth(life):
    tags = {tag["key"]: tag["value"] for tag in life.instance.get_tags()}
    config = json.loads(life.user_data.partition("\n")[2]) if life.user_data else {}
    ports = {
        int(rule.from_port)
        for group in life.instance.security_groups
        for rule in group.ingress_rules
        if rule.ip_range and rule.from_port is not None
    }
    return Truth(
        id=life.instance.id,
        ssh_keys=frozenset(config.get("ssh_authorized_keys", ())),
        boot_script="".join(one["content"] for one in config.get("write_files", ())),
        labels=tags,
        ports=frozenset(ports),
    )


@pytest.fixture(scope="module")
def server():
    clock = ManualClock()
    with Ec2(clock=clock, boot_s=25, stop_s=12, terminate_s=8, listing_lag_s=4, page_size=2) as aws:
        yield aws


@pytest.fixture(scope="module")
def clients():
    return {}


class TestAwsMachines(DriverConformance):
    driver_type = Aws

    @pytest.fixture
    def harness(self, tmp_path, server, clients):
        server.reset()
        server.quotas["L-1216C47A"] = 64
        return Ec2Harness(tmp_path, server, clients)
