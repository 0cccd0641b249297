"""An emulator can't drift from the vendor's document, neither in what it answers nor in what it lets through."""

import json

import jsonschema
import pytest

from styx.testing.openapi import DIRECTORY, published

POD = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
DOCUMENT = {
    "openapi": "3.1.0",
    "paths": {
        "/pods": {
            "get": {
                "parameters": [{"name": "region", "in": "query"}, {"$ref": "#/components/parameters/Needed"}],
                "responses": {"200": {"content": {"application/json": {"schema": {"type": "array"}}}}},
            },
            "post": {
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pod"}}}},
                "responses": {"201": {"$ref": "#/components/responses/Made"}},
            },
        },
        "/pods/{id}": {"delete": {"responses": {"204": {}}}},
    },
    "components": {
        "schemas": {"Pod": POD},
        "parameters": {"Needed": {"name": "account", "in": "query", "required": True}},
        "responses": {"Made": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pod"}}}}},
    },
}


@pytest.fixture
def document(tmp_path, monkeypatch):
    (tmp_path / "vendor.json").write_text(json.dumps(DOCUMENT))
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    return published("vendor.json")


def test_what_the_document_allows(document):
    document.check_request("GET", "/pods", {"account": "a", "region": "x"}, None)
    document.check("GET", "/pods", 200, [])
    document.check_request("POST", "/pods", {}, {"name": "p"})
    document.check("POST", "/pods", 201, {"name": "p", "more": 1})
    document.check_request("DELETE", "/pods/p-1", {}, None)
    document.check("DELETE", "/pods/p-1", 204, None)


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "words"),
    [
        ("GET", "/pods", {"account": "a", "zone": "x"}, None, "takes no .'zone'. in its query"),
        ("GET", "/pods", {}, None, "needs .'account'. in its query"),
        ("POST", "/pods", {}, {"name": "p", "quantity": 2}, "has no field .'quantity'."),
        ("DELETE", "/pods/p-1", {}, {"force": True}, "takes no body"),
        ("PUT", "/pods", {}, {}, "the document has no PUT /pods"),
        ("DELETE", "/pods/p-1/disk", {}, None, "the document has no DELETE"),
    ],
)
def test_requests_it_does_not_know(document, method, path, query, body, words):
    with pytest.raises(AssertionError, match=words):
        document.check_request(method, path, query, body)


def test_bodies_of_another_shape(document):
    with pytest.raises(jsonschema.ValidationError):
        document.check_request("POST", "/pods", {}, {"name": 7})
    with pytest.raises(jsonschema.ValidationError):
        document.check("GET", "/pods", 200, {})
    with pytest.raises(AssertionError, match="never answers 404"):
        document.check("DELETE", "/pods/p-1", 404, None)


def test_without_documents_a_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    assert published("vendor.json") is None
    assert "nothing is held against vendor.json" in capsys.readouterr().err
