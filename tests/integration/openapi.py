"""Holds answers to docs/openapi.yaml: a route, status, content type or field that is not described there is an
error of the test that saw it. Knows the part of OpenAPI 3 that the document uses."""

import os
import re

import yaml

PATH = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "openapi.yaml")
seen = set()                # (method, template, status): what the tests exercised
_doc = None


class Undescribed(Exception):
    """Not an AssertionError, so that no wait() tries it again."""


def document():
    global _doc
    if _doc is None:
        with open(PATH) as f:
            _doc = yaml.safe_load(f)
    return _doc


def resolve(node):
    while isinstance(node, dict) and "$ref" in node:
        at = document()
        for part in node["$ref"].lstrip("#/").split("/"):
            at = at[part.replace("~1", "/").replace("~0", "~")]
        node = at
    return node


def route(service, method, path):
    """(template, operation) of a path; service is orchestrator or agent: an operation may name the one
    that has it in x-service."""
    bare = path.split("?")[0]
    best = None
    for template, item in document()["paths"].items():
        pattern = re.sub(r"\\\{[^}]+\\\}", "[^/]+", re.escape(template))
        op = item.get(method.lower())
        if op is None and method in ("HEAD", "OPTIONS"):
            op = item.get("get")
        if op is None or not re.fullmatch(pattern, bare):
            continue
        has = op.get("x-service", item.get("x-service"))
        if has and service not in (has if isinstance(has, list) else [has]):
            continue
        if best is None or template.count("{") < best[0].count("{"):
            best = (template, op)
    return best


def check(service, method, path, reply):
    if not os.path.exists(PATH):
        return
    found = route(service, method, path)
    if found is None:
        if reply.status in (404, 405):
            _check_problem(method, path, reply)
            return
        raise Undescribed(f"{service} {method} {path}: no such route in openapi.yaml, but it "
                          f"answered {reply.status}")
    template, op = found
    responses = op["responses"]
    want = responses.get(str(reply.status)) or responses.get("default")
    if want is None:
        raise Undescribed(f"{method} {template}: status {reply.status} is not described: {reply!r}")
    seen.add((method, template, reply.status))
    want = resolve(want)
    if method == "HEAD" or not reply.body:
        return
    kind = reply.headers.get("content-type", "").split(";")[0]
    content = want.get("content", {})
    if kind not in content:
        raise Undescribed(f"{method} {template} {reply.status}: content type {kind!r}, described "
                          f"are {sorted(content)}")
    if reply.json is not None:
        problems = list(validate(reply.json, content[kind].get("schema", {}), "$"))
        if problems:
            raise Undescribed(f"{method} {path} {reply.status}: " + "; ".join(problems[:5])
                              + f" in {reply!r}")


def _check_problem(method, path, reply):
    kind = reply.headers.get("content-type", "").split(";")[0]
    if reply.body and kind != "application/problem+json":
        raise Undescribed(f"{method} {path}: error {reply.status} of type {kind!r}")


TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def type_fits(value, name):
    if name == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if name == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def validate(value, schema, at):
    """Yields one sentence per difference. An object may have only the fields its schema names, unless it says
    additionalProperties: what is not described is not API."""
    schema = resolve(schema)
    if value is None and schema.get("nullable"):
        return
    for key in ("oneOf", "anyOf"):
        if key in schema:
            tries = [list(validate(value, s, at)) for s in schema[key]]
            if all(tries):
                yield min(tries, key=len)[0]
            return
    if "allOf" in schema:
        schema = merged(schema)
    names = schema.get("type")
    if names is not None:
        names = names if isinstance(names, list) else [names]
        if not any(type_fits(value, n) for n in names):
            yield f"{at} is {value!r}, not {'/'.join(names)}"
            return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at} is {value!r}, not one of {schema['enum']}"
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{at} is {value!r}, not like {schema['pattern']}"
    if type_fits(value, "number"):
        if "minimum" in schema and value < schema["minimum"]:
            yield f"{at} is {value} < {schema['minimum']}"
    if isinstance(value, list) and "items" in schema:
        for i, v in enumerate(value):
            yield from validate(v, schema["items"], f"{at}[{i}]")
    if isinstance(value, dict):
        yield from validate_object(value, schema, at)


def validate_object(value, schema, at):
    known = schema.get("properties", {})
    extra = schema.get("additionalProperties", not known)
    for name in schema.get("required", []):
        if name not in value:
            yield f"{at}.{name} is missing"
    for name, v in value.items():
        if name in known:
            yield from validate(v, known[name], f"{at}.{name}")
        elif extra is False:
            yield f"{at}.{name} is not described"
        elif isinstance(extra, dict):
            yield from validate(v, extra, f"{at}.{name}")


def merged(schema):
    out = {k: v for k, v in schema.items() if k != "allOf"}
    for part in schema["allOf"]:
        part = resolve(part)
        part = merged(part) if "allOf" in part else part
        out.setdefault("type", part.get("type", "object"))
        out["properties"] = {**part.get("properties", {}), **out.get("properties", {})}
        out["required"] = part.get("required", []) + out.get("required", [])
    return out
