import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.models.acceleratornames import ACCELERATORS, ALIASES, BOARDS, BY_MEMORY
from styx.models.accelerators import (
    AcceleratorRequest,
    accelerator_facts,
    accelerator_suggestion,
    answering,
    canonical_accelerator,
    is_known_accelerator,
)


@pytest.mark.parametrize(
    ("written", "usual"),
    [
        ("a100", "A100"),
        ("A100-40GB", "A100"),
        ("NVIDIA A100", "A100"),
        ("nvidia-tesla-t4", "T4"),
        ("T4G", "T4g"),
        ("RTXA6000", "A6000"),
        ("RTX A6000", "A6000"),
        ("RTX PRO 6000 96GB", "RTXPRO6000"),
        ("GeForce RTX_4090", "RTX4090"),
        ("Gaudi HL-205", "Gaudi"),
        ("TPU-V5E-8", "tpu-v5e-8"),
        ("FutureChip9", "FutureChip9"),
    ],
)
def test_one_name_for_one_thing(written, usual):
    assert canonical_accelerator(written) == usual
    assert is_known_accelerator(written) == (usual != "FutureChip9")


@given(st.sampled_from(sorted({*ACCELERATORS, *ALIASES})), st.sampled_from(["-", "_", " ", ""]), st.booleans())
def test_case_and_separators_never_matter(name, separator, upper):
    written = name.replace("-", separator)
    usual = canonical_accelerator(written.upper() if upper else written.lower())
    assert usual == ALIASES.get(name, name)
    assert canonical_accelerator(usual) == usual


def test_names_do_not_collide():
    folded = [name.lower().translate(str.maketrans("", "", " -_")) for name in (*ACCELERATORS, *ALIASES)]
    assert len(set(folded)) == len(folded)
    assert set(ALIASES.values()) <= ACCELERATORS.keys()
    for (name, memory), special in BY_MEMORY.items():
        assert accelerator_facts(name).memory_gib != memory == accelerator_facts(special).memory_gib


def test_a_plain_name_takes_the_chips_board_for_servers_and_not_the_other_way_round():
    assert answering("h200") == ("H200", "H200-SXM")
    assert answering("H200-SXM5") == ("H200-SXM",)
    assert answering("A100") == ("A100",)
    assert answering("TPU-v5e-8") == ("tpu-v5e-8", "tpu-v5litepod-8")
    assert answering("tpu-v5litepod-8") == ("tpu-v5litepod-8", "tpu-v5e-8")
    assert answering("tpu-v6e-8") == ("tpu-v6e-8",)
    for name, boards in BOARDS.items():
        for board in boards:
            assert accelerator_facts(board) == accelerator_facts(name)


def test_facts_and_suggestions():
    assert accelerator_facts("MI300X") == ("amd", 192)
    assert accelerator_facts("tpu-v5e-8") == ("google", None)
    assert accelerator_facts("FutureChip9") is None
    assert accelerator_suggestion("H1000") == 'did you mean "H100"?'
    assert str(AcceleratorRequest.model_validate("habana:80GB+:4")) == "intel:80GB+:4"
