"""Holds an emulator's requests and replies against the vendor's published OpenAPI document, so that a fake can't drift.

The documents are the vendors' and are not part of Styx: `STYX_SPECS_DIR` names a folder that has them. Needs
jsonschema.
"""

from __future__ import annotations

import json
import os
import re
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
        pointer, operation = self._operation(method, path)
        replies = operation["responses"]
        chosen = str(status) if str(status) in replies else "default"
        assert chosen in replies, f"{method} {path} never answers {status}"
        pointer, reply = self._resolved(f"{pointer}/responses/{chosen}", replies[chosen])
        schema = _json_content(pointer, reply)
        if schema is None:
            assert body in (None, ""), f"{method} {path} answers {status} without a body"
        else:
            self._validate(schema, body)

    def check_request(self, method: str, path: str, query: Mapping[str, str], body: Any) -> None:
        """Fail when the document does not allow this request: its query, its body, or a field that nothing names."""
        pointer, operation = self._operation(method, path)
        given = [self._resolved("", one)[1] for one in operation.get("parameters", ())]
        named = {one["name"] for one in given if one["in"] == "query"}
        assert set(query) <= named, f"{method} {path} takes no {sorted(set(query) - named)} in its query"
        missing = {one["name"] for one in given if one["in"] == "query" and one.get("required")} - set(query)
        assert not missing, f"{method} {path} needs {sorted(missing)} in its query"
        wanted = operation.get("requestBody")
        if wanted is None:
            assert body in (None, "", b""), f"{method} {path} takes no body"
            return
        pointer, wanted = self._resolved(f"{pointer}/requestBody", wanted)
        schema = _json_content(pointer, wanted)
        assert schema is not None, f"{method} {path} takes no JSON"
        self._validate(schema, body)
        _, shape = self._resolved(schema.removeprefix(_ROOT + "#"), self._at(schema.removeprefix(_ROOT + "#")))
        if isinstance(body, Mapping) and "properties" in shape and "allOf" not in shape:
            unknown = set(body) - set(shape["properties"])
            assert not unknown, f"{method} {path} has no field {sorted(unknown)}"

    def _validate(self, reference: str, body: Any) -> None:
        import jsonschema  # type: ignore[import-untyped]

        jsonschema.Draft202012Validator({"$ref": reference}, registry=self._registry).validate(body)

    def _operation(self, method: str, path: str) -> tuple[str, Mapping[str, Any]]:
        paths = self._content["paths"]
        hits = [path] if path in paths else [one for one in paths if _pattern(one).fullmatch(path)]
        for template in hits:
            operation = paths[template].get(method.lower())
            if operation:
                shared = paths[template].get("parameters", [])
                whole = {**operation, "parameters": [*shared, *operation.get("parameters", [])]}
                return f"/paths/{_escaped(template)}/{method.lower()}", whole
        raise AssertionError(f"the document has no {method} {path}")

    def _resolved(self, pointer: str, value: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        while "$ref" in value:
            pointer = str(value["$ref"]).removeprefix("#")
            value = self._at(pointer)
        return pointer, value

    def _at(self, pointer: str) -> Any:
        found: Any = self._content
        for part in pointer.strip("/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        return found


def published(name: str) -> Document | None:
    """The document called `name` in `$STYX_SPECS_DIR`; None, and a line on stderr, where there is none."""
    folder = os.environ.get(DIRECTORY)
    path = Path(folder or ".") / name
    if not folder or not path.is_file():
        sys.stderr.write(f"nothing is held against {name}: {DIRECTORY} names no folder that has it\n")
        return None
    return Document(json.loads(path.read_text(encoding="utf-8")))


def _json_content(pointer: str, holder: Mapping[str, Any]) -> str | None:
    """Where the schema of the JSON in a request or reply is."""
    for kind, content in holder.get("content", {}).items():
        if "json" in kind and "schema" in content:
            return f"{_ROOT}#{pointer}/content/{_escaped(kind)}/schema"
    return None


def _pattern(template: str) -> re.Pattern[str]:
    """What paths a template such as `/pods/{id}` stands for."""
    return re.compile(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(template)))


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
