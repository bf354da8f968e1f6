"""Disks that hang or are full."""

import json
import subprocess
import time

import procs
from clients import Writer
from harness import deadline, own, wait

DOCUMENT = {"listen_addresses": "*", "hba": ["host all all 10.77.0.0/24 scram-sha-256"]}
APART = {"network": True, "start": None, "document": DOCUMENT}
WEIGHT = 8


def disk_of_its_own(node, size="400M"):
    """Everything of the node moves to a file system that only its machine sees."""
    image = procs.write_file(f"{node.cluster.root}/{node.id}.img", "")
    subprocess.run(["truncate", "-s", size, image], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=1", image], check=True)
    m = node.machine
    m.run("sh", "-ec", f"mkdir -p {node.dir}.new; mount -o loop {image} {node.dir}.new;"
          f"cp -a {node.dir}/. {node.dir}.new/; mount --move {node.dir}.new {node.dir}")


@own(**APART)
@deadline(150)
def test_disk__of_the_leader_hangs__another_leads_and_health_answers_all_the_time(c):
    for n in c.nodes:
        disk_of_its_own(n)
    c.how = "init"
    c.bring_up()
    with Writer(c, mode="race") as w:
        w.wait_acks(10)
        old = c.leader()
        at = time.monotonic_ns()
        old.machine.run("fsfreeze", "-f", old.dir)
        try:
            wait(lambda: w.first_ack_after(at, old.server), 20, "writes elsewhere")
            for path in ("/liveness", "/health", "/primary", "/replica"):
                began = time.monotonic()
                reply = old.api.get(path, token=None, timeout=2)
                assert reply.status in (200, 503) and json.loads(reply.body), reply
                assert time.monotonic() - began < 1 * procs.SLOW
            assert old.api.get("/primary", token=None).status == 503
        finally:
            old.machine.run("fsfreeze", "-u", old.dir)
        c.wait_healthy(45)
        w.check(at_least=11)


@own(**APART)
@deadline(150)
def test_disk__full_at_both_followers__does_not_stop_an_election(c):
    for n in c.nodes:
        n.machine.run("mount", "-t", "tmpfs", "-o", "size=8m,mode=700,uid=%d,gid=%d" % _postgres(), "none",
                      n.state)
    c.how = "init"
    c.bring_up()
    with Writer(c) as w:
        w.wait_acks(10)
        old = c.leader()
        for n in c.followers():
            subprocess.run(n.machine.enter() + ["sh", "-c", f"cat /dev/zero > {n.state}/filler"],
                           capture_output=True)
        old.kill_postmaster()
        c.wait_leader(20, other_than=old)
        for n in c.nodes:
            if n is not old:
                n.machine.run("rm", f"{n.state}/filler")
        c.wait_healthy(30)
        w.check(at_least=11)


def _postgres():
    user = procs.postgres_user()
    return user.pw_uid, user.pw_gid
