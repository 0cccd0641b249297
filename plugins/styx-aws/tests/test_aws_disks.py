"""What AWS asks for root disks, and how fast they are."""

import pytest

from styx_aws import disks


@pytest.mark.parametrize(
    ("region", "gib", "tier", "usd"),
    [
        ("us-east-1", 100, None, 8.0),
        ("us-east-1", 100, "low", 8.0),
        ("us-east-1", 100, "medium", 8.0 + 3000 * 0.005 + 125 * 0.04),
        ("us-east-1", 100, "best", 8.0 + 13000 * 0.005 + 875 * 0.04),
        ("us-east-1", 8, "best", 0.64 + 1000 * 0.005 + 875 * 0.04),  # 500 IOPS for each GiB, a MiB/s for four of them
        ("eu-central-1", 50, None, 4.76),
        ("eu-central-1", 50, "high", None),  # what speed costs there is not known
        ("us-east-1", None, None, None),
        ("xx-moon-1", 50, None, None),
    ],
)
def test_the_list_price_of_a_root_disk(region, gib, tier, usd):
    price = disks.price(region, gib, tier)
    assert (price and price.usd) == (usd if usd is None else pytest.approx(usd))
    if price is not None:
        assert price.as_of == disks.AS_OF
        assert price.gib == gib


def test_prices_are_of_the_regions_that_are_planned_for_and_have_a_plausible_size():
    from styx_aws.config import AwsConfig

    assert set(AwsConfig().regions) <= set(disks.USD_PER_GIB_MONTH)
    assert all(0.05 < usd < 0.3 for usd in disks.USD_PER_GIB_MONTH.values())
