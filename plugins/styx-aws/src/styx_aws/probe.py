"""What a machine asks its own metadata, to know of a spot interruption before it comes."""

from __future__ import annotations

from typing import Final

_SCRIPT: Final = (
    "import urllib.request as u;"
    "o=u.build_opener(u.ProxyHandler({}));"
    "b='http://169.254.169.254/latest/';"
    "t=o.open(u.Request(b+'api/token',method='PUT',headers={'X-aws-ec2-metadata-token-ttl-seconds':'60'}),timeout=2).read();"
    "o.open(u.Request(b+'meta-data/spot/instance-action',headers={'X-aws-ec2-metadata-token':t.decode()}),timeout=2).read()"
)
COMMAND: Final = ("python3", "-c", _SCRIPT)
"""Ends with 0 when an interruption is announced; AWS answers 404 until then, and the command fails. IMDSv2 only."""
