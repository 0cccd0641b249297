"""Tables and short texts."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx_cli.app import App
from styx_cli.render import age, elapsed, lease_text, show_table, span, table, usd

CELLS = st.lists(st.lists(st.text(st.characters(codec="utf-8", categories=("L", "N"))), min_size=3, max_size=3))


@pytest.mark.unmeasured
@given(CELLS)
def test_a_table_has_one_line_per_row_and_aligned_columns(rows: list[list[str]]) -> None:
    lines = table(("A", "B", "C"), [["x", *row] for row in [r[:2] for r in rows]]).split("\n")
    if not rows:
        assert lines == [""]
        return
    assert len(lines) == len(rows) + 2
    assert lines[0].startswith("A  B")


def test_wide_and_combining_characters_keep_columns_straight() -> None:
    lines = table(("N", "S"), [["日本", "up"], ["é", "up"]]).splitlines()
    assert lines[1] == "日本  up"
    assert lines[2] == "é     up"


def test_a_line_break_in_a_cell_does_not_break_the_table() -> None:
    assert len(table(("A",), [["one\ntwo"]]).splitlines()) == 2


@pytest.mark.parametrize(
    ("amount", "text"), [(None, "?"), (0.0, "$0.00"), (0.0042, "$0.0042"), (1.5, "$1.50"), (12345.6, "$12,345.60")]
)
def test_unknown_money_is_never_zero(amount: float | None, text: str) -> None:
    assert usd(amount) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (59, "59s"), (60, "1m"), (3600, "1h"), (3660, "1h 1m"), (86400, "1d"), (90000, "1d 1h")],
)
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_age_and_elapsed() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert age(now - timedelta(minutes=3), now) == "3m"
    assert age(None) == "-"
    assert elapsed(3.21) == "3.2s"
    assert elapsed(65) == "1m 05s"


def test_lease() -> None:
    assert lease_text({}) == "-"
    assert lease_text({"idle_s": 600, "action": "down"}) == "down at 10m idle"
    assert lease_text({"idle_s": None, "max_age_s": 86400, "max_usd": 5.0}) == "stop at 1d old or $5.00"


def test_a_table_too_wide_for_the_terminal_is_wrapped_in_its_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rows = [["dev", "[bold]a reason that goes on for much longer than forty columns[/bold]"]]
    show_table(App(is_terminal=lambda _: True), ("NAME", "REASON"), rows)
    wrapped = capsys.readouterr().out
    assert max(map(len, wrapped.splitlines())) <= 40
    assert "[bold]" in wrapped
    show_table(App(is_terminal=lambda _: False), ("NAME", "REASON"), rows)
    assert capsys.readouterr().out == table(("NAME", "REASON"), rows)
