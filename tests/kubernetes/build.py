"""Builds a Kubernetes 1.20 control plane and kubelet, and two images, from Debian's own sources into one folder.

    python -m tests.kubernetes.build FOLDER

Debian bookworm has no such binaries, but its source package `kubernetes` holds the whole tree with its vendored
modules, and Go 1.19 builds it. Needs root, and Debian's archive; about 6 minutes of CPU and 3 GB while it works.
What is there already is not built again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

BINARIES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
PACKAGES = (
    "dpkg-dev", "golang-1.19-go", "golang-1.19-src", "golang-github-modern-go-reflect2-dev",
    "golang-github-modern-go-concurrent-dev", "etcd-server", "containerd", "runc", "containernetworking-plugins",
    "mmdebstrap", "busybox-static", "gcc", "libc6-dev", "iproute2", "conntrack", "ebtables", "ethtool", "socat",
)  # fmt: skip
VERSION = "v1.20.2"
PYTHON_IMAGE, BARE_IMAGE, PAUSE_IMAGE = "localhost/styx-python:2", "localhost/styx-bare:1", "localhost/styx-pause:1"
PAUSE = """
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int number) { _exit(0); }
static void reap(int number) { while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void) { signal(SIGTERM, end); signal(SIGINT, end); signal(SIGCHLD, reap); for (;;) pause(); }
"""


def run(*argv: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """A command's output; its errors are shown when it fails."""
    done = subprocess.run(argv, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"{' '.join(argv)[:300]} failed ({done.returncode}):\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
    return done.stdout


def complete(folder: Path) -> bool:
    """Whether everything is there."""
    return all((folder / name).is_file() for name in (*BINARIES, "python3.tar", "bare.tar", "pause.tar"))


def install() -> None:
    """Debian's compilers and the daemons that are not built here."""
    apt = ("apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends", *PACKAGES)
    run(*apt, env={"DEBIAN_FRONTEND": "noninteractive"})


def fetch(work: Path) -> Path:
    """The unpacked source package, through a package index of its own."""
    tree = work / "gopath/src/k8s.io/kubernetes"  # no link: Go finds vendored modules by the real path
    if tree.is_dir():
        return tree
    tree.parent.mkdir(parents=True)
    for part in ("apt/lists/partial", "apt/cache/archives/partial"):
        (work / part).mkdir(parents=True, exist_ok=True)
    listed = Path("/etc/apt/sources.list.d/debian.sources").read_text(encoding="utf-8")
    listed = re.sub(r"(?m)^Types:.*", "Types: deb-src", listed)
    (work / "apt/debian.sources").write_text(
        re.sub(r"(?m)^Components:.*", "Components: main", listed), encoding="utf-8"
    )
    (work / "apt/apt.conf").write_text(
        f'Dir::Etc::sourcelist "{work}/apt/debian.sources";\nDir::Etc::sourceparts "/dev/null";\n'
        f'Dir::State::lists "{work}/apt/lists";\nDir::Cache "{work}/apt/cache";\n',
        encoding="utf-8",
    )
    env = {"APT_CONFIG": str(work / "apt/apt.conf")}
    run("apt-get", "update", "-qq", env=env)
    run("apt-get", "source", "-qq", "--download-only", "kubernetes", cwd=work, env=env)
    recipe = next(work.glob("kubernetes_1.20*.dsc"))
    run("dpkg-source", "--no-check", "-x", recipe.name, str(tree), cwd=work)
    return tree


def mend(tree: Path) -> None:
    """The vendored reflect2 crashes a server that a newer Go built: Debian's own is newer."""
    for module in ("reflect2", "concurrent"):
        target = tree / "vendor/github.com/modern-go" / module
        shutil.rmtree(target)
        shutil.copytree(f"/usr/share/gocode/src/github.com/modern-go/{module}", target)
        for test in target.glob("*_test.go"):
            test.unlink()


def compile_all(work: Path, tree: Path, out: Path) -> None:
    """The one generated file that the source package lacks, then the four programs."""
    path = f"/usr/lib/go-1.19/bin:{os.environ['PATH']}"
    go = {"PATH": path, "GO111MODULE": "off", "GOPROXY": "off", "CGO_ENABLED": "0",
          "GOPATH": str(work / "gopath"), "GOCACHE": str(work / "gocache")}  # fmt: skip
    vendor = "k8s.io/kubernetes/vendor/"
    run(
        "go", "build", "-o", str(work / "openapi-gen"), f"{vendor}k8s.io/kube-openapi/cmd/openapi-gen", cwd=tree, env=go
    )
    inputs = ",".join(sorted(openapi_packages(tree)))
    run(
        str(work / "openapi-gen"), "-O", "zz_generated.openapi", "-h", "hack/boilerplate/boilerplate.generatego.txt",
        "-i", inputs, "-p", "k8s.io/kubernetes/pkg/generated/openapi", "-r", str(work / "violations.txt"),
        "--output-base", str(work / "gopath/src"), cwd=tree, env=go,
    )  # fmt: skip
    facts = {"gitVersion": VERSION, "gitMajor": "1", "gitMinor": "20", "gitTreeState": "clean"}
    holders = (
        "k8s.io/component-base/version",
        f"{vendor}k8s.io/component-base/version",
        f"{vendor}k8s.io/client-go/pkg/version",
    )
    flags = " ".join(["-s -w", *(f"-X {holder}.{name}={value}" for holder in holders for name, value in facts.items())])
    for name in BINARIES:
        run("go", "build", "-ldflags", flags, "-o", str(out / name), f"k8s.io/kubernetes/cmd/{name}", cwd=tree, env=go)


def openapi_packages(tree: Path) -> set[str]:
    """Import paths of the packages that ask to be in the API document."""
    found = set()
    for top in ("staging/src/k8s.io", "pkg", "cmd"):
        for path in (tree / top).rglob("*.go"):
            where = path.relative_to(tree).as_posix()
            left_out = ("_test.go", "/testdata/", "sample-", "code-generator/", "zz_generated")
            if any(part in where for part in left_out):
                continue
            if "+k8s:openapi-gen=" not in path.read_text(encoding="utf-8", errors="replace"):
                continue
            folder = Path(where).parent.as_posix()
            staged = folder.removeprefix("staging/src/")
            found.add(f"k8s.io/kubernetes/vendor/{staged}" if staged != folder else f"k8s.io/kubernetes/{folder}")
    return found


def image(target: Path, name: str, layer: bytes, command: str = "/bin/sh") -> None:
    """An archive that containerd imports, with one layer."""
    digest = hashlib.sha256(layer).hexdigest()
    settings = {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"], "Cmd": [command]}
    layers = {"type": "layers", "diff_ids": [f"sha256:{digest}"]}
    config = {"architecture": "amd64", "os": "linux", "config": settings, "rootfs": layers}
    text = json.dumps(config).encode()
    config_name = hashlib.sha256(text).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": [f"{digest}.tar"]}]).encode()
    with tarfile.open(target, "w") as archive:
        for entry, data in ((config_name, text), (f"{digest}.tar", layer), ("manifest.json", manifest)):
            info = tarfile.TarInfo(entry)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def images(work: Path, out: Path) -> None:
    """One with Python and what Ray's programs need, one with nothing but a shell, and the pause container's."""
    work.mkdir(parents=True, exist_ok=True)
    root = work / "python-root.tar"
    run("mmdebstrap", "--variant=essential", "--include=python3,libstdc++6", "--format=tar", "bookworm", str(root))
    image(out / "python3.tar", PYTHON_IMAGE, root.read_bytes())
    image(out / "bare.tar", BARE_IMAGE, bare_layer())
    (work / "pause.c").write_text(PAUSE, encoding="utf-8")
    run("gcc", "-Os", "-static", "-o", str(work / "pause"), str(work / "pause.c"))
    image(out / "pause.tar", PAUSE_IMAGE, layer_of({"pause": (work / "pause").read_bytes()}), "/pause")


def bare_layer() -> bytes:
    """A busybox and its names."""
    busybox = Path("/usr/bin/busybox" if Path("/usr/bin/busybox").exists() else "/bin/busybox")
    names = run(str(busybox), "--list").split()
    return layer_of(
        {"bin/busybox": busybox.read_bytes()}, {f"bin/{name}": "busybox" for name in names if name != "busybox"}
    )


def layer_of(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    """A layer with these programs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder, mode in (("bin", 0o755), ("tmp", 0o1777), ("etc", 0o755), ("root", 0o700)):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, mode
            archive.addfile(info)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            archive.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return buffer.getvalue()


def build(out: Path) -> None:
    """Whatever is missing."""
    out.mkdir(parents=True, exist_ok=True)
    work = out / ".work"
    if complete(out):
        return
    install()
    if not all((out / name).is_file() for name in BINARIES):
        work.mkdir(exist_ok=True)
        tree = fetch(work)
        mend(tree)
        compile_all(work, tree, out)
    images(work, out)
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    build(Path(sys.argv[1]).resolve())
