"""What is run on a host. Each script answers between marks, because logins may greet.

A lease is one file, `styx.lease`, a line of JSON. It comes into being by a hard link, so that it is never half-written
and never replaces another; it goes by renaming or removing it. A node that ended by itself leaves
`styx.ended.<cluster>-<rank>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BEGIN = "<<styx-ssh"
END = "styx-ssh>>"

_PYTHONS = (
    'python3 /usr/bin/python3 /usr/local/bin/python3 "$HOME"/.styx-agent/python/bin/python3 /opt/*/bin/python3 '
    "python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 python"
)
"""Where a Python is looked for: wherever one may be found that starts an agent."""

_LEASE = r"""
lease() {
    if [ -f "$folder/styx.lease" ]; then
        text=; IFS= read -r text < "$folder/styx.lease" 2>/dev/null
        printf 'lease=%.4000s\n' "${text:-unreadable}"
    elif [ -e "$folder/styx.lease" ] || [ -L "$folder/styx.lease" ]; then
        echo 'lease={"broken": "no file"}' # anybody may have put it there; to read a pipe would take for ever
    fi
}
held() { [ -f "$folder/styx.lease" ] && cat "$folder/styx.lease" 2>/dev/null; }
"""

_BEGIN = f"""
folder=$1
printf '%s\\n' '{BEGIN}'
trap 'printf "%s\\n" "{END}"' EXIT
"""

LOOK = (
    _BEGIN
    + _LEASE
    + r"""
lease
for ended in "$folder"/styx.ended.*; do
    text=; [ -f "$ended" ] && IFS= read -r text < "$ended" && printf 'ended=%.4000s\n' "$text"
done
exit 0
"""
)
"""Who holds the host, and which leases ended by themselves. Arguments: folder."""

DETECT = (
    _BEGIN
    + _LEASE
    + r"""
lease
[ -d "$folder" ] && [ -w "$folder" ] || echo 'trouble=the lease folder is missing or cannot be written'
[ -w "$HOME" ] || echo 'trouble=the home folder cannot be written'
echo "cpus=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null)"
while read -r name amount unit; do
    [ "$name" = MemTotal: ] && echo "memory_kib=$amount" && break
done 2>/dev/null < /proc/meminfo
echo "machine=$(uname -sm)"
echo "connection=$SSH_CONNECTION"
echo "addresses=$(hostname -I 2>/dev/null)"
[ -e "$HOME/sky_workdir" ] && echo 'workdir=there'
for python in @PYTHONS@; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null && echo "python=$python" && break
done
PATH=$PATH:/usr/local/nvidia/bin:/usr/local/cuda/bin
if command -v nvidia-smi >/dev/null 2>&1; then
    nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits 2>/dev/null | while IFS= read -r gpu; do
        printf 'gpu=%s\n' "$gpu"
    done
fi
exit 0
"""
).replace("@PYTHONS@", _PYTHONS)
"""What the host is. Arguments: folder."""

TAKE = (
    _BEGIN
    + _LEASE
    + r"""
new=$folder/.styx.new.$2
umask 022
rm -f "$new"
if ! (set -C; cat > "$new") 2>/dev/null; then
    rm -f "$new" 2>/dev/null
    echo 'trouble=cannot write in the lease folder'
    exit 0
fi
if [ ! -d "$folder/styx.lease" ] && ! ln "$new" "$folder/styx.lease" 2>/dev/null && [ ! -e "$folder/styx.lease" ]; then
    echo 'trouble=cannot make the lease file'
fi
rm -f "$new"
lease
exit 0
"""
)
"""Lease the host if nobody has it; shows who has it then. Arguments: folder, token-rank; the record on stdin."""

CHANGE = (
    _BEGIN
    + _LEASE
    + r"""
case $(held) in
*"\"token\":\"$2\""*)
    umask 022
    new=$folder/.styx.new.$2.change
    rm -f "$new"
    (set -C; cat > "$new") && mv -f "$new" "$folder/styx.lease"
    ;;
esac
lease
exit 0
"""
)
"""Replace a lease of ours by another record. Arguments: folder, token; the record on stdin."""

_CLEAN = r"""
clean() {
    # Agents are ended by their own recorded pids, and only their folders are removed.
    for base in "$HOME/.styx-agent" "/var/tmp/styx-agent-$(id -u)"; do
        state=$base/$cluster/$rank
        [ -d "$state" ] || continue
        case $base in /var/tmp/*) [ -O "$base" ] && [ -O "$state" ] || continue ;; esac # anybody may write there
        for agent in "$state"/*.pyz; do
            [ -f "$agent" ] || continue
            for python in @PYTHONS@; do
                "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null || continue
                said=$("$python" -I -S "$agent" stop --state "$state" 2>&1) || trouble="its agent did not end: $said"
                break
            done
            break
        done
        rm -rf "$state"
        rmdir "$base/$cluster" "$base" 2>/dev/null
    done
    case $(stat -f -c %T "$HOME" 2>/dev/null) in
        nfs*|lustre|fuse*|smb*|cifs|beegfs|gpfs|ceph|afs) keep=keep ;; # other hosts, and their clusters, have it too
    esac
    [ "$keep" = keep ] || rm -rf "$HOME/sky_workdir"
}
""".replace("@PYTHONS@", _PYTHONS)

GIVE_BACK = (
    _BEGIN
    + _LEASE
    + _CLEAN
    + r"""
token=$2 cluster=$3 rank=$4 keep=$5 trouble=
case $(held) in
*"\"token\":\"$token\""*) ours=yes ;;
*) ours=no keep=keep ;;
esac
[ -O "$folder/styx.lease" ] || keep=keep # what somebody else wrote there destroys nothing
clean
[ -z "$trouble" ] || printf 'trouble=%.300s\n' "$(echo "$trouble" | tail -n 1)"
[ -n "$trouble" ] || [ $ours = no ] || rm -f "$folder/styx.lease"
lease
exit 0
"""
)
"""End what our agent runs, remove our folders, then the lease. Arguments: folder, token, cluster, rank, keep|remove."""

FORGET = (
    _BEGIN
    + r"""
for ended in "$folder/styx.ended.$2-"*; do
    [ -f "$ended" ] || continue
    case $(cat "$ended" 2>/dev/null) in *"\"store\":\"$3\""*) rm -f "$ended" ;; esac
done
exit 0
"""
)
"""Remove the traces of leases that ended by themselves. Arguments: folder, cluster, store."""

END_ITSELF = (
    r"""
folder=$1 token=$2 cluster=$3 rank=$4 keep=$5 agent=$PPID trouble=
"""
    + _LEASE
    + _CLEAN
    + r"""
(
    tries=0
    while kill -0 "$agent" 2>/dev/null && [ $tries -lt 300 ]; do sleep 0.2; tries=$((tries + 1)); done
    case $(held) in
    *"\"token\":\"$token\""*)
        clean
        mv -f "$folder/styx.lease" "$folder/styx.ended.$cluster-$rank"
        ;;
    esac
) </dev/null >/dev/null 2>&1 &
"""
)
"""Run by the agent when its lease is over: waits for the agent's own end, then cleans up and frees the host."""


@dataclass(frozen=True)
class Answer:
    """What a script said: `name=value` lines, in order."""

    lines: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        """Every value of that name."""
        return [value for key, value in self.lines if key == name]

    def one(self, name: str) -> str | None:
        """The first value of that name that is not empty."""
        return next((value for value in self.all(name) if value), None)


def parse(stdout: bytes) -> Answer | None:
    """The lines between the marks; None when the script did not come to its end."""
    text = stdout.decode("utf-8", "replace")
    _, begun, rest = text.partition(f"{BEGIN}\n")
    inside, ended, _ = rest.rpartition(f"{END}\n") if f"{END}\n" in rest else (rest, "", "")
    if not begun or not ended:
        return None
    pairs = (line.partition("=") for line in inside.splitlines() if "=" in line)
    return Answer(tuple((name, value.strip()) for name, _, value in pairs))


def command(script: str, *arguments: str) -> Sequence[str]:
    """The script as an argument list."""
    return ("sh", "-c", script, "styx-ssh", *arguments)
