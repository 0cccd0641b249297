"""The stand-ins do what their originals do, and a start loads nothing that they stand in for."""

import hashlib
import json
import subprocess
import sys
import typing

import pytest

from styx_agent import lean

PYTHON = sys.executable
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from styx_agent import agent, bridge, instance, main, supervisor; "
    "from styx_agent.watch import Watch; Watch(); "
    "print(*sys.modules)"
)
_SLOW = {
    "argparse",
    "base64",
    "ctypes",
    "enum",
    "hashlib",
    "inspect",
    "json",
    "re",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "tempfile",
    "typing",
    "zipfile",
}
_VALUES = [
    {"a": [1, -2, 2.5, 1e300, 10**30, True, False, None], "b": {"": {}}, "c": []},
    'quotes " and \\ and \n, \x00, \u00fc, \u4e2d, \U0001f600, \ud800',
    (1, ("two", 3.0)),
    {1: 2, 2.5: 3, None: 4, False: 5},
    [float("inf"), -float("inf"), 0.1, -0.0],
    17,
    "",
    None,
]
_NO_JSON = ["", " ", "{", "[1,]", '{"a" 1}', '"open', "nul", "1 2", "{} x", "'a'", "[1", "\ufeff{}", '"\n"', "01", "+1"]


def record(base):
    """The same record, by either."""

    class Record(base):
        """A record."""

        name: str
        sizes: "list[int]"
        note: "str | None" = None

        @property
        def total(self):
            """All sizes."""
            return sum(self.sizes)

    return Record


@pytest.mark.parametrize("kind", [record(lean.NamedTuple), record(typing.NamedTuple)], ids=["lean", "typing"])
def test_a_record_is_what_typing_makes(kind):
    one = kind("a", [1, 2])
    assert one == ("a", [1, 2], None)
    assert (one.total, one.note, kind._fields, kind._field_defaults) == (
        3,
        None,
        ("name", "sizes", "note"),
        {"note": None},
    )
    assert one._replace(note="n") == kind(name="a", sizes=[1, 2], note="n")
    assert one._asdict() == {"name": "a", "sizes": [1, 2], "note": None}
    assert repr(one) == "%s(name='a', sizes=[1, 2], note=None)" % kind.__name__
    assert (kind.__doc__, kind.__module__, kind.total.__doc__) == ("A record.", __name__, "All sizes.")
    assert issubclass(kind, tuple)
    with pytest.raises(TypeError):
        kind("a")
    with pytest.raises(AttributeError):
        one.name = "b"


def test_a_record_without_fields_is_left_to_typing():
    class Empty(lean.NamedTuple):
        """Nothing."""

        def size(self):
            return len(self)

    assert (Empty(), Empty().size(), Empty.__doc__) == ((), 0, "Nothing.")


def test_a_typed_dict_is_a_dict_with_annotations():
    class View(lean.TypedDict, total=False):
        state: str

    assert list(View.__annotations__) == ["state"]
    assert View(state="x") == {"state": "x"}


@pytest.mark.parametrize("value", _VALUES)
def test_json_is_that_of_json(value):
    dumps, loads = lean._codec()
    text = dumps(value)
    assert text == json.dumps(value)
    assert loads(" \n" + text + "\t\r\n ") == json.loads(text)
    assert loads(json.dumps(value, indent=2, ensure_ascii=False)) == json.loads(text)
    assert loads("NaN") != loads("NaN")


@pytest.mark.parametrize("text", _NO_JSON)
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ValueError) as said:
        json.loads(text)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from styx_agent import lean; assert 'json' not in sys.modules\n"
        "try: lean.loads(eval(sys.argv[2]))\nexcept ValueError as error: print(error)"
    )
    folder = lean.__file__.rpartition("/styx_agent/")[0]
    done = subprocess.run(
        [PYTHON, "-I", "-S", "-c", code, folder, ascii(text)], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.strip(), done.stderr) == (str(said.value), "")


def test_json_that_cannot_be():
    dumps, loads = lean._codec()
    with pytest.raises(TypeError, match="type set"):
        dumps({"a": {1}})
    with pytest.raises(RecursionError):
        loads("[" * 200_000)
    endless = []
    endless.append(endless)
    with pytest.raises(RecursionError):
        dumps(endless)


@pytest.mark.parametrize("gone", [(), ("_sha2", "_sha256")])
def test_digests_are_those_of_hashlib(monkeypatch, gone):
    for name in gone:
        monkeypatch.setitem(sys.modules, name, None)
    assert lean.sha256(b"styx") == hashlib.sha256(b"styx").hexdigest()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux's C library")
@pytest.mark.parametrize("bare", [True, False])
def test_functions_of_the_c_library(monkeypatch, bare):
    def lacking(name):
        raise AttributeError("another Python")

    if not bare:
        monkeypatch.setattr(lean, "_bare_function", lacking)
    assert lean.libc("strlen")(b"four") == 4
    assert lean.libc("getpid")() > 1
    assert lean.libc("prctl")(9999, 1, 0, 0, 0) == -1
    with pytest.raises(OSError, match="no_such_function"):
        lean.libc("no_such_function")


def test_a_start_loads_little():
    """Each of these costs a new host's start some milliseconds of processor time."""
    folder = lean.__file__.rpartition("/styx_agent/")[0]
    command = [PYTHON, "-I", "-S", "-c", _START, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert "styx_agent.server" in loaded
    assert loaded & _SLOW == set()
