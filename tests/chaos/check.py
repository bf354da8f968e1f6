"""What must hold when the faults are over. Each function takes the world, and raises AssertionError if it does not."""

import os
import subprocess

import harness
import procs
from harness import wait
from test_orchestrators import one_leader_per_generation
from world import ACCOUNTS, BALANCE

TABLES = ["acknowledged", "accounts", "transfers", "readings"]


def some(values, count=5):
    return f"{len(values)}: {sorted(values)[:count]}"


def rows(w, table, node=None):
    return set((node or w.leader()).sql(f"SELECT writer, sequence FROM {table}", database=w.database, deadline_s=60))


def acknowledged_values_are_on_the_leader(w):
    lost = w.ledger.appended() - rows(w, "acknowledged")
    assert not lost, f"acknowledged and lost: {some(lost)}"


def prepared_transactions_are_kept(w):
    """Each that was acknowledged is committed, or still prepared: nobody rolls one back."""
    kept = rows(w, "acknowledged")
    for [gid] in w.leader().sql("SELECT gid FROM pg_prepared_xacts"):
        _, writer, sequence = gid.split("_")
        kept.add((int(writer), int(sequence)))
    lost = set(w.ledger.prepared) - kept
    assert not lost, f"prepared and lost: {some(lost)}"


def transfers_are_on_the_leader(w):
    lost = set(w.ledger.acknowledged["bank"]) - rows(w, "transfers")
    assert not lost, f"acknowledged and lost: {some(lost)}"


def confirmed_readings_are_on_the_leader(w):
    kept = set(w.leader().sql("SELECT reader, sequence FROM readings", database=w.database, deadline_s=60))
    lost = set(w.ledger.acknowledged["reader"]) - kept
    assert not lost, f"acknowledged and lost: {some(lost)}"


def bank_total_never_changed(w):
    total = ACCOUNTS * BALANCE
    wrong = w.ledger.totals(total)
    assert not wrong, f"read {[r.total for r in wrong[:5]]} instead of {total}"
    [[now]] = w.leader().sql("SELECT sum(balance) FROM accounts", database=w.database)
    assert now == total, f"{now} instead of {total}"
    off = w.leader().sql(
        "SELECT id, balance, moved FROM accounts JOIN LATERAL (SELECT coalesce(sum(CASE WHEN target = id THEN amount "
        "ELSE -amount END), 0) AS moved FROM transfers WHERE id IN (source, target)) t ON true "
        f"WHERE balance <> {BALANCE} + moved", database=w.database, deadline_s=60)
    assert not off, f"accounts that are not the sum of their transfers: {off[:5]}"


def readers_never_saw_less(w):
    wrong = w.ledger.shrunk(w.watched)
    assert not wrong, f"{len(wrong)}: {wrong[:5]}"


def no_earlier_leader_acknowledged_after_a_later_one(w):
    wrong = w.ledger.late()
    assert not wrong, f"{len(wrong)}: {[f'generation {f.generation} after {g}' for f, g in wrong[:5]]}"


def one_leader_for_each_generation(w):
    wrong = one_leader_per_generation(w)
    assert not wrong, wrong


def copies_are_alike(w):
    """All three hold the same rows, once the followers have replayed what the leader has."""
    leader = w.leader()
    lsn = leader.one("SELECT pg_current_wal_flush_lsn()")
    for n in w.nodes:
        if n is not leader:
            wait(lambda n=n: n.one(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'::pg_lsn"), 20, f"{n.id} has replayed")
    for t in TABLES:
        sums = {n.id: n.sql(f"SELECT count(*), sum(hashtext(t::text)::bigint) FROM {t} t", database=w.database,
                            deadline_s=60)[0] for n in w.nodes}
        assert len(set(sums.values())) == 1, f"{t}: {sums}"


def amcheck_is_clean(w):
    for n in w.nodes:
        argv = [os.path.join(harness.pg_bindir(), "pg_amcheck"), "--host", n.host, "--port", str(n.port), "--username",
                harness.SUPERUSER, "--database", w.database, "--heapallindexed"]
        done = subprocess.run(w.client_enter() + argv, capture_output=True, text=True, timeout=120 * procs.SLOW,
                              env=procs.clean_env(PGPASSWORD=w.password("superuser")))
        assert done.returncode == 0 and not done.stdout, f"{n.id}: {(done.stdout + done.stderr)[:2000]}"


def each_client_was_answered(w):
    """A kind of client that never wrote anything has checked nothing."""
    idle = [kind for kind, values in w.ledger.acknowledged.items() if len(values) < 10]
    assert not idle and w.ledger.prepared, f"clients without acknowledged values: {idle}"


CHECKS = [each_client_was_answered, acknowledged_values_are_on_the_leader, prepared_transactions_are_kept,
          transfers_are_on_the_leader, confirmed_readings_are_on_the_leader, bank_total_never_changed,
          readers_never_saw_less, no_earlier_leader_acknowledged_after_a_later_one, one_leader_for_each_generation,
          copies_are_alike, amcheck_is_clean]
