"""Holds objects against the published API document, in the form of the models that the official client has of it."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

KINDS = {
    "Pod": "V1Pod",
    "Service": "V1Service",
    "Ingress": "V1Ingress",
    "PersistentVolumeClaim": "V1PersistentVolumeClaim",
    "Node": "V1Node",
    "Event": "CoreV1Event",
    "Status": "V1Status",
    "DeleteOptions": "V1DeleteOptions",
    "SelfSubjectAccessReview": "V1SelfSubjectAccessReview",
}


def wrong(value: dict[str, Any]) -> list[str]:
    """What the document does not allow of an object: unknown fields, wrong types, missing ones."""
    import kubernetes.client.models as models

    kind = str(value.get("kind", ""))
    if kind.endswith("List"):
        return [fault for item in value["items"] for fault in wrong({"kind": kind.removesuffix("List"), **item})]
    if kind not in KINDS:
        return [f"no kind {kind!r} is served here"]
    try:
        getattr(models, KINDS[kind]).model_validate(value)
    except ValidationError as error:
        return [f"{kind}.{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return []
