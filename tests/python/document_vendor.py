"""Our document against the one the vendor publishes with its client. Neither is read by the other's makers."""

import json
import operator
import os
import unittest
import urllib.request
from fnmatch import fnmatchcase
from pathlib import Path

import yaml

OURS = os.environ["SERVER_URL"] + "/openapi/veriko.json"
THEIRS = os.environ["TEST_VERIKO_SPEC"]
KNOWN = Path(__file__).with_name("document_vendor.yaml")


class Agreement(unittest.TestCase):
    maxDiff = None

    def test_every_difference_from_the_vendors_document_has_its_reason(self):
        found = list(differences())
        patterns = {pattern for entry in yaml.safe_load(KNOWN.read_text()) for pattern in patterns_of(entry)}
        without_reason = [
            difference for difference in found if not any(fnmatchcase(difference, one) for one in patterns)
        ]
        self.assertEqual(without_reason, [])
        stale = [one for one in patterns if not any(fnmatchcase(difference, one) for difference in found)]
        self.assertEqual(stale, [])


def patterns_of(entry):
    """One for each of the names between braces, where there are any."""
    assert entry["because"] and entry.keys() == {"differences", "because"}, entry
    before, brace, rest = entry["differences"].partition("{")
    names, _, after = rest.partition("}")
    return [before + name.strip() + after for name in names.split(",")] if brace else [before]


def differences():
    with urllib.request.urlopen(OURS) as answer:
        ours = Document(json.load(answer))
    theirs = Document(yaml.load(Path(THEIRS).read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    published = dict(theirs.operations())
    for (path, method), operation in ours.operations():
        name = operation["operationId"]
        other = published.get((path.removeprefix("/v1"), method))
        if other is None:
            yield f"{name}: {method} {path} only ours"
            continue
        if other["operationId"] != name:
            yield f"{name}: operationId is {other['operationId']}"
        yield from compared(f"{name}: parameter", ours.parameters(operation), theirs.parameters(other))
        one, two = ours.responses(operation), theirs.responses(other)
        yield from compared(f"{name}: response", dict.fromkeys(one), dict.fromkeys(two))
        for status in sorted(one.keys() & two.keys()):
            # What we answer fits what they promise, and what they take fits what we take.
            yield from compared(
                f"{name}: {status}", ours.body(one[status]), theirs.body(two[status]), frozenset.issubset
            )
        one, two = ours.body(operation.get("requestBody")), theirs.body(other.get("requestBody"))
        yield from compared(f"{name}: request", one, two, frozenset.issuperset)


def compared(what, ours, theirs, agree=operator.eq):
    for name in outermost(ours.keys() - theirs.keys()):
        yield f"{what} {name} only ours"
    for name in outermost(theirs.keys() - ours.keys()):
        yield f"{what} {name} only theirs"
    for name in sorted(ours.keys() & theirs.keys()):
        if not agree(ours[name], theirs[name]):
            yield f"{what} {name} is {show(ours[name])} here, {show(theirs[name])} there"


def outermost(places):
    """Without those inside of others."""
    inside = lambda place: any(place.startswith((f"{other}/", f"{other}[")) for other in places)
    return sorted(place for place in places if not inside(place))


def show(value):
    return "|".join(sorted(value)) if isinstance(value, frozenset) else value


class Document:
    def __init__(self, document):
        self.document = document

    def operations(self):
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                if method in ("get", "put", "post", "delete", "patch"):
                    yield (path, method), operation

    def parameters(self, operation):
        parameters = map(self.resolve, operation.get("parameters", []))
        return {
            f"{parameter['in']} {parameter['name']}": "required" if parameter.get("required") else "optional"
            for parameter in parameters
        }

    def responses(self, operation):
        return {status: self.resolve(response) for status, response in operation["responses"].items()}

    def body(self, holder):
        """Each value in a JSON body by where it is, with its types."""
        content = self.resolve(holder or {}).get("content", {})
        json_schemas = [media.get("schema", {}) for kind, media in content.items() if "json" in kind]
        types = {}
        for schema in json_schemas:
            self.walk(schema, "", types)
        return {where: frozenset(names) for where, names in types.items() if where}

    def walk(self, schema, where, types):
        schema = self.resolve(schema)
        known = types.setdefault(where, set())
        known.update(kinds(schema))
        for part in ("allOf", "oneOf", "anyOf"):
            for one in schema.get(part, []):
                self.walk(one, where, types)
        for name, member in schema.get("properties", {}).items():
            self.walk(member, f"{where}/{name}", types)
        if isinstance(schema.get("items"), dict):
            self.walk(schema["items"], f"{where}[]", types)

    def resolve(self, value):
        while "$ref" in value:
            target = self.document
            for step in value["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            value = target
        return value


def kinds(schema):
    kind = schema.get("type")
    if kind is None and "const" in schema:
        kind = {bool: "boolean", str: "string", int: "integer"}.get(type(schema["const"]))
    if kind is None and "enum" in schema:
        kind = "string"
    kinds = [kind] if isinstance(kind, str) else kind or []
    # A sum is a number to one and text to nobody; whether it is whole shows in the value.
    return ["number" if kind == "integer" else kind for kind in kinds]
