"""The help of `styx` itself, rendered from the table of verbs; needs neither Typer nor Rich."""

from __future__ import annotations

from styx_cli.extras import Extras, find_extras
from styx_cli.verbs import VERBS

_HEAD = """\
Usage: styx [OPTIONS] COMMAND [ARGS]...

  Run AI and batch work on any cloud: cheapest place, typed failures, nothing
  left billing.
"""

_OPTIONS = (
    ("-v, --version", "Show the version."),
    ("-h, --help", "Show this help; `styx COMMAND --help` shows that of a command."),
    ("--install-completion", "Install completion for the current shell."),
    ("--show-completion", "Print the completion script of the current shell."),
)

_TAIL = """\
stdout carries data only, everything else goes to stderr. The exit code of
launch, exec and logs is the job's; Styx's own failures exit 2 or 64 to 78.
"""


def help_text(extras: Extras | None = None, *, width: int = 100) -> str:
    """The whole help, with the verbs of other packages, none of which is imported."""
    extras = find_extras() if extras is None else extras
    sections: dict[str, list[tuple[str, str]]] = {}
    for verb in VERBS.values():
        sections.setdefault(verb.section, []).append((verb.name, verb.summary))
    if extras.usable or extras.contested:
        sections["Of other packages"] = [
            *((extra.name, f"From {extra.package}.") for extra in extras.usable.values()),
            *(
                (name, f"Declared twice, by {' and '.join(rival.package for rival in rivals)}: not usable.")
                for name, rivals in extras.contested.items()
            ),
        ]
    sections["Options"] = list(_OPTIONS)
    parts = [_HEAD]
    parts += [f"{title}:\n{_rows(rows, width)}" for title, rows in sections.items()]
    if extras.shadowing:
        ignored = ", ".join(f"{extra.name} of {extra.package}" for extra in extras.shadowing)
        parts.append(f"Ignored, because Styx has a command of that name: {ignored}.\n")
    parts.append(_TAIL)
    return "\n".join(parts)


def _rows(rows: list[tuple[str, str]], width: int) -> str:
    left = max(len(name) for name, _ in rows) + 4
    lines = []
    for name, summary in rows:
        folded = _folded(summary, max(width - left, 30))
        lines.append(f"  {name}".ljust(left) + folded[0])
        lines += [" " * left + more for more in folded[1:]]
    return "\n".join(lines) + "\n"


def _folded(text: str, width: int) -> list[str]:
    """Lines of whole words; `textwrap` would cost more than all the rest."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".lstrip()
    return lines
