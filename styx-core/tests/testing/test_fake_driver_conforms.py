"""The reference driver passes the suite, at a vendor with idempotent creates and at one without."""

import pytest

from styx.testing.conformance import DriverConformance
from styx.testing.fakecloud import FakeDriver
from styx.testing.fakecloud.harness import FakeHarness


class TestFakeDriver(DriverConformance):
    driver_type = FakeDriver

    @pytest.fixture(params=[True, False], ids=["idempotent", "not-idempotent"])
    def harness(self, tmp_path, request):
        return FakeHarness(tmp_path, idempotent=request.param)
