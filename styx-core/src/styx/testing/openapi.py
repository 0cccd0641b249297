"""Holds an emulator's replies against the vendor's published OpenAPI document, so that a fake can't drift.

The documents are the vendors' and are not part of Styx: `STYX_SPECS_DIR` names a folder that has them. Needs
jsonschema.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DIRECTORY = "STYX_SPECS_DIR"
_ROOT = "urn:document"


class Document:
    """One OpenAPI 3 document."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        from referencing import Registry
        from referencing.jsonschema import DRAFT202012

        self._content = content
        self._registry: Any = Registry().with_resource(_ROOT, DRAFT202012.create_resource(content))

    def check(self, method: str, path: str, status: int, body: Any) -> None:
        """Fail when the document does not allow this reply to this request."""
        import jsonschema  # type: ignore[import-untyped]

        operation = self._content["paths"].get(path, {}).get(method.lower())
        assert operation, f"the document has no {method} {path}"
        replies = operation["responses"]
        chosen = str(status) if str(status) in replies else "default"
        assert chosen in replies, f"{method} {path} never answers {status}"
        pointer, reply = self._resolved(f"/paths/{_escaped(path)}/{method.lower()}/responses/{chosen}", replies[chosen])
        for kind, content in reply.get("content", {}).items():
            if "json" in kind and "schema" in content:
                schema = {"$ref": f"{_ROOT}#{pointer}/content/{_escaped(kind)}/schema"}
                jsonschema.Draft202012Validator(schema, registry=self._registry).validate(body)
                return
        assert body in (None, ""), f"{method} {path} answers {status} without a body"

    def _resolved(self, pointer: str, value: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        while "$ref" in value:
            pointer = str(value["$ref"]).removeprefix("#")
            found: Any = self._content
            for part in pointer.strip("/").split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            value = found
        return pointer, value


def published(name: str) -> Document | None:
    """The document called `name` in `$STYX_SPECS_DIR`; None, and a line on stderr, where there is none."""
    folder = os.environ.get(DIRECTORY)
    path = Path(folder or ".") / name
    if not folder or not path.is_file():
        sys.stderr.write(f"replies are not held against {name}: {DIRECTORY} names no folder that has it\n")
        return None
    return Document(json.loads(path.read_text(encoding="utf-8")))


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
