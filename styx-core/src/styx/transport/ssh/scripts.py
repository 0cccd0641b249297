"""What runs on hosts before there is an agent: shell of one line each, and a few lines of Python.

One line and single quotes only: the host's login shell passes the script on to `sh`, and may be any shell itself.
"""

from __future__ import annotations

MARK = "styx-node-1"
"""The line before a node's facts: login shells may print things first."""

_FIND = (
    'h=${HOME:-$(pwd)}; s=$h/.styx-agent; p=; for c in "$s"/python/bin/python3 python3 /usr/bin/python3 '
    "/usr/local/bin/python3 /opt/*/bin/python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 "
    'python3.8 python; do command -v "$c" >/dev/null 2>&1 || continue; '
    'case $("$c" -V 2>&1) in "Python 3."[89]*|"Python 3."[1-9][0-9]*) '
    'p=$(command -v "$c"); break;; esac; done; case $(stat -f -c %T "$h" 2>/dev/null) in '
    'nfs*|lustre|fuse*|smb*|cifs|beegfs|gpfs|ceph|afs) s=/var/tmp/styx-agent-$(id -u); mkdir -m 700 "$s" 2>/dev/null; '
    '[ -O "$s" ] && [ ! -L "$s" ] || { echo "$s belongs to somebody else" >&2; exit 96; };; esac; '
)
PROBE = f"""{_FIND}printf '%s\\n' {MARK} "$h" "$p" "$s\""""
"""Prints the mark, then home, Python (empty: none) and the folder of agents."""

_NAMED = f'{PROBE}; [ -n "$p" ] || exit 97; n=$1; f=$2; c=$3; v=$4; shift 4; STYX_NODE=$n; export STYX_NODE; '
_RUN = 'exec "$p" -I -S -c "$c" "$s/$n/$f" "$v" --state "$s/$n" --home "$h" "$@"'
LAUNCH = _NAMED + _RUN
"""Arguments: instance, name of the agent's program, `RECEIVE`, verb, the verb's own arguments."""
REJOIN = f'{_NAMED}[ -d "$s/$n" ] || exit 96; {_RUN}'
"""The same, where the instance must be there already. Its program may be one of another version."""

PUT = 'mkdir -p "${1%/*}" && umask 077 && cat > "$1.$3" && chmod "$2" "$1.$3" && mv -f "$1.$3" "$1"'
"""Arguments: path, mode, a word to make a temporary name of."""

WITH_ENV = 'eval "$(dd bs=1 count="$1" 2>/dev/null)"; shift; exec "$@"'
"""Arguments: length of the `export` lines at the beginning of the input, command."""

_RECEIVE = """
import os, sys
try:
    from _frozen_importlib_external import MAGIC_NUMBER
except ImportError:
    from importlib.util import MAGIC_NUMBER
path = sys.argv[1]
if os.path.isfile(path):
    os.write(1, b'have\\n')
else:
    try:
        mask = os.umask(0o077)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        part = '%s.%d' % (path, os.getpid())
        out = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(1, ('need %s\\n' % MAGIC_NUMBER.hex()).encode())
        head = b''
        while not head.endswith(b'\\n'):
            head += os.read(0, 1) or sys.exit(98)
        left = int(head)
        while left:
            data = os.read(0, min(left, 65536)) or sys.exit(98)
            left -= len(data)
            while data:
                data = data[os.write(out, data):]
        os.close(out)
        os.replace(part, path)
        os.umask(mask)
    except OSError as error:
        os.write(2, ('cannot write %s: %s\\n' % (path, error.strerror)).encode('utf-8', 'replace'))
        sys.exit(95)
sys.argv[:] = [path] + sys.argv[2:]
sys.path.insert(0, path)
from styx_agent.main import main
sys.exit(main())
"""
RECEIVE = f"exec({_RECEIVE.strip()!r})"
"""Becomes the agent's program, which it asks for (`need <magic number>`) where it is not there (`have`)."""
