from hypothesis import given
from hypothesis import strategies as st

from styx_agent import processes, slots

HALVES = st.integers(0, 8).map(lambda n: n / 4)
NEEDS = st.lists(st.tuples(st.integers(1, 2), HALVES, HALVES), max_size=12)


@given(cpus=HALVES, gpus=st.integers(0, 3), needs=NEEDS, ends=st.lists(st.integers(0, 11), max_size=30))
def test_no_slot_is_sold_twice_and_order_is_kept(cpus, gpus, needs, ends):
    """Plays a whole queue: admit, end some job, admit again."""
    capacity = slots.Capacity(1, cpus, float(gpus))
    waiting = [slots.Need(n, *need) for n, need in enumerate(needs)]
    held, started, rejected = {}, [], []
    for end in [None, *ends]:
        held.pop(end, None)
        admission = slots.admit(capacity, list(held.values()), waiting)
        for number, shares in admission.starts:
            held[number] = slots.Held(needs[number][1], shares)
            assert sum(shares.values()) == needs[number][2]
            assert all(0 < share <= 1 for share in shares.values())
            assert sum(share < 1 for share in shares.values()) <= 1
        started += [number for number, _ in admission.starts]
        rejected += [number for number, _ in admission.rejects]
        gone = {number for number, _ in (*admission.starts, *admission.rejects)}
        waiting = [need for need in waiting if need.job_id not in gone]
        assert sum(one.cpus for one in held.values()) <= cpus + 1e-6
        for index in range(gpus):
            assert sum(one.shares.get(index, 0) for one in held.values()) <= 1 + 1e-6
        assert all(index < gpus for one in held.values() for index in one.shares)
    assert started == sorted(started)
    for need in waiting:
        assert slots.never_fits(capacity, need) is None
    for number in rejected:
        assert needs[number][0] > 1 or needs[number][1] > cpus or needs[number][2] > gpus


@given(cpus=HALVES, gpus=st.integers(0, 3), needs=NEEDS)
def test_every_job_that_fits_alone_is_started_in_the_end(cpus, gpus, needs):
    capacity = slots.Capacity(2, cpus, float(gpus))
    waiting = [slots.Need(n, *need) for n, need in enumerate(needs)]
    done = 0
    for _ in range(len(needs) + 1):
        admission = slots.admit(capacity, [], waiting)  # all that were started have ended
        gone = {number for number, _ in (*admission.starts, *admission.rejects)}
        done += len(gone)
        waiting = [need for need in waiting if need.job_id not in gone]
    assert done == len(needs)


def test_names_of_the_devices_that_a_node_sees():
    assert slots.visible_devices({0: 1.0, 1: 0.5}, None) == "0,1"
    assert slots.visible_devices({0: 1.0, 1: 0.5}, "GPU-a, GPU-b") == "GPU-a,GPU-b"
    assert [slots.rounded_gpus(n) for n in (0, 0.25, 1, 1.5, 8)] == ["0", "1", "1", "2", "8"]


def test_process_tables_are_parsed():
    line = b"42 (a) b (c) S 7 42 40 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 1 2 3\n"
    assert processes.parse_stat(42, line) == processes.Process(42, 7, 40, "123456", False)
    assert processes.parse_stat(42, line.replace(b" S ", b" Z ")).dead
    assert not processes.parse_stat(42, line.replace(b" S ", b" Z ").replace(b" 20 0 1 ", b" 20 0 3 ")).dead
    listing = "    1     0     1 Ss   Mon Nov 23 22:45:01 2026\n  501     1   501 Z+   Mon Nov 23 22:46:00 2026\n"
    assert processes.parse_ps(listing) == {
        1: processes.Process(1, 0, 1, "Mon Nov 23 22:45:01 2026", False),
        501: processes.Process(501, 1, 501, "Mon Nov 23 22:46:00 2026", True),
    }


def test_ps_knows_this_process_as_proc_does():
    import os

    assert processes._table_from_ps()[os.getpid()].ppid == os.getppid()
