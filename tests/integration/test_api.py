"""The HTTP API beside its description. Every answer that any test sees is checked as well (httpapi.py)."""

import json
import re

import openapi
from harness import wait

CLUSTER = {}


def test_api__every_route_described__exists(c):
    sample = {"name": c.name, "id": "n1", "node": "n1"}
    for template, item in openapi.document()["paths"].items():
        path = re.sub(r"\{(\w+)\}", lambda m: sample[m.group(1)], template)
        for method, op in item.items():
            if method not in ("get", "post", "put", "delete", "head", "options"):
                continue
            services = op.get("x-service", item.get("x-service", "orchestrator"))
            for service in services if isinstance(services, list) else [services]:
                part = c.nodes[0] if service == "agent" else c.orchestrators[0]
                # Without a token nothing is changed; what is open has no side effect.
                reply = part.api.call(method.upper(), path, token=None)
                assert reply.status not in (404, 405, 501), f"{service} {method} {path}: {reply}"


def test_api__routes_that_need_a_token__refuse_without_one(c):
    for template, item in openapi.document()["paths"].items():
        for method, op in item.items():
            security = op.get("security", openapi.document().get("security")) if isinstance(op, dict) else []
            if method not in ("get", "post") or not security:
                continue
            services = op.get("x-service", item.get("x-service", "orchestrator"))
            service = services[0] if isinstance(services, list) else services
            part = c.nodes[0] if service == "agent" else c.orchestrators[0]
            path = re.sub(r"\{\w+\}", "n1", template)
            reply = part.api.call(method.upper(), path, token=None)
            assert reply.status == 401, f"{method} {template}: {reply}"
            assert "www-authenticate" in reply.headers, reply.headers


def test_api__health_of_the_orchestrator__is_open(c):
    api = c.orchestrators[0].api
    assert api.get("/healthz", token=None).status == 200
    assert api.get("/readyz", token=None).status == 200


def test_api__clusters__lists_what_is_supervised(c):
    reply = c.orchestrators[0].api.get("/v1/clusters")
    assert [x["name"] for x in reply.json["clusters"]] == [c.name]


def test_api__event_stream__delivers_a_switchover_as_it_happens(c):
    stream = c.orchestrators[0].api.stream(f"/v1/clusters/{c.name}/events")
    assert stream.status == 200 and stream.getheader("Content-Type").startswith("text/event-stream")
    target = c.followers()[0]
    c.switchover(target)

    def heard():
        line = stream.readline().decode()
        return line.startswith("data: ") and "O3" in json.dumps(json.loads(line[6:]))
    wait(heard, 15, "the event of the switchover")
    stream.close()


def test_api__events__survive_the_loss_of_the_orchestrator(c):
    def told_by_agents():
        return {(e["time"], e["reason"]) for e in c.events() if e.get("node") and e.get("reason", "-") != "-"}
    before = told_by_agents()
    assert before
    c.orchestrators[0].process.kill()
    c.orchestrators[0].process.start()
    # Decisions are the orchestrator's own; what the agents did is all there again.
    wait(lambda: len(told_by_agents() & before) > len(before) / 2, 15, "the agents' events")


def test_api__methods_not_allowed__are_405_with_allow(c):
    reply = c.orchestrators[0].api.call("DELETE", f"/v1/clusters/{c.name}")
    assert reply.status == 405 and "GET" in reply.headers["allow"], reply
