"""Redis holds a copy of the topology, and nothing depends on it."""

import json
import subprocess

import procs
from clients import Writer
from harness import deadline, own, wait

CLUSTER = {"redis": True}
KEY, CHANNEL = "ogel:main:topology", "ogel:main:events"


def topology(c):
    return json.loads(c.redis.cli("GET", KEY))


def test_redis__topology__names_the_leader(c):
    wait(lambda: topology(c)["leader"] == c.leader().id, 10, "the topology in Redis")
    assert topology(c)["generation"] == c.generation()


def test_redis__flushed__is_rebuilt_within_five_seconds(c):
    c.redis.cli("FLUSHALL")
    wait(lambda: topology(c)["leader"] == c.leader().id, 5, "the topology is written again")


def test_redis__restarted_empty__is_rebuilt(c):
    c.redis.process.kill()
    c.redis.process.start()
    wait(lambda: topology(c)["leader"] == c.leader().id, 15, "the topology is written again")


def test_redis__subscriber__hears_of_a_new_leader(c):
    old = c.leader()
    log = f"{c.root}/subscriber.log"
    with open(log, "w") as out:
        sub = subprocess.Popen(["redis-cli", "-h", c.redis.host, "-p", str(c.redis.port), "SUBSCRIBE", CHANNEL],
                               stdout=out, stdin=subprocess.DEVNULL,
                               env=procs.clean_env(REDISCLI_AUTH=c.redis.password))
    try:
        wait(lambda: "subscribe" in open(log).read(), 5, "the subscription")
        old.kill_postmaster()
        new = wait(lambda: (n := c.leader()) is not old and n, 15, "another leader")

        def heard():
            events = [json.loads(x) for x in open(log).read().splitlines() if x.startswith("{")]
            return [e for e in events if e.get("kind") == "topology" and e["topology"]["leader"] == new.id]
        wait(heard, 10, f"the event that {new.id} leads")
    finally:
        sub.kill()
        sub.wait()


def failover_works(c):
    with Writer(c) as w:
        w.wait_acks(5)
        old = c.leader()
        old.kill_postmaster()
        wait(lambda: c.leader() is not old, 15, "another leader")
        c.wait_healthy()
        w.check(at_least=5)


def test_redis__dead__failover_goes_on(c):
    c.redis.process.kill()
    failover_works(c)


def test_redis__frozen__failover_goes_on(c):
    c.redis.process.freeze()
    failover_works(c)
    assert c.orchestrators[0].api.get("/connect?intent=write").status == 200


@own(redis=True, start="daemons")
@deadline(60)
def test_redis__wrong_password__is_said_and_everything_else_works(c):
    o = c.orchestrators[0]
    o.process.kill()
    procs.write_file(f"{o.secrets}/redis", "wrong-password\n")
    o.process.start()
    c.init()
    c.wait_healthy(45)
    wait(lambda: "redis" in o.process.log_text().lower(), 10, "the log names Redis")
