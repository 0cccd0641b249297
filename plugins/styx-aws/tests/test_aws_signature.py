"""Signature Version 4, against the worked example of AWS's documentation."""

from datetime import UTC, datetime

from pydantic import SecretStr

from styx_aws.sigv4 import Keys, Scope, signed

KEYS = Keys("AKIDEXAMPLE", SecretStr("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"))
NOW = datetime(2015, 8, 30, 12, 36, tzinfo=UTC).timestamp()


def test_the_documented_example():
    headers = signed(
        "GET",
        "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
        {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
        b"",
        KEYS,
        Scope("us-east-1", "iam", NOW),
    )
    assert headers["Authorization"].get_secret_value() == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )
    assert headers["X-Amz-Date"].get_secret_value() == "20150830T123600Z"


def test_everything_sent_is_covered():
    def signature(url="https://ec2.eu-west-1.amazonaws.com/", body=b"a=1", keys=KEYS, region="eu-west-1"):
        made = signed("POST", url, {}, body, keys, Scope(region, "ec2", NOW))
        return made["Authorization"].get_secret_value().rpartition("=")[2]

    other = Keys("AKIDEXAMPLE", SecretStr("another"), SecretStr("token"))
    all_of = {
        signature(),
        signature(url="https://ec2.eu-west-2.amazonaws.com/"),
        signature(url="https://ec2.eu-west-1.amazonaws.com/?b=2"),
        signature(body=b"a=2"),
        signature(keys=other),
        signature(region="eu-west-2"),
    }
    assert len(all_of) == 6
    assert signature() == signature()


def test_keys_hide_themselves():
    assert "wJalr" not in repr(KEYS)
