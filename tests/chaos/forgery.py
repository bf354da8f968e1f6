"""Can the checks fail? Records and tables without a flaw, which every check accepts, and forgeries of them, each of
which one check must refuse. chaos.py looks at all of them before it begins."""

import copy
import os
import types

import check
from ledger import Ledger
from world import ACCOUNTS, BALANCE

MS = 1_000_000
WATCHED = [1000, 6000, 7000]


def honest():
    """Lines of the clients' files by kind, and what the leader holds. Times in ms; the leader changes at 500."""
    total = ACCOUNTS * BALANCE
    accounts = {i: BALANCE for i in range(ACCOUNTS)}
    accounts[1], accounts[2] = BALANCE - 7, BALANCE + 7
    return types.SimpleNamespace(
        lines={
            "libpq": [(1000, 1, 10, 12, "A"), (1000, 2, 600, 602, "A"), (1000, 3, 610, 620, "U"),
                      (1000, 4, 630, 640, "W")],
            "prepare": [(6000, 1, 20, 22, "P"), (6000, 1, 23, 24, "A"), (6000, 2, 30, 32, "P")],
            "direct": [(7000, 1, 100, 102, "A", 2), (7000, 2, 499, 530, "A", 2), (7000, 3, 605, 608, "A", 3)],
            "bank": [(8000, 1, 40, 42, "A")],
            "reader": [(9000, 1, 200, 210, "A", 2, total, [1, 1, 1]), (9000, 2, 650, 660, "A", 3, total, [2, 1, 3])]},
        tables={"acknowledged": {(1000, 1), (1000, 2), (6000, 1), (7000, 1), (7000, 2), (7000, 3)},
                "transfers": {(8000, 1)}, "readings": {(9000, 1), (9000, 2)}},
        prepared={"chaos_6000_2"}, accounts=accounts, moved={1: -7, 2: 7})


class Leader:
    """Answers the checks' questions from what the record says that it holds."""

    def __init__(self, record):
        self.record = record

    def sql(self, query, **_):
        r = self.record
        if "pg_prepared_xacts" in query:
            return [(gid,) for gid in r.prepared]
        if "JOIN LATERAL" in query:
            return [(i, b) for i, b in r.accounts.items() if b != BALANCE + r.moved.get(i, 0)]
        if "sum(balance)" in query:
            return [(sum(r.accounts.values()),)]
        return list(r.tables[query.split(" FROM ")[1]])


def world_of(record, directory):
    files = {}
    for kind, lines in record.lines.items():
        path = os.path.join(directory, f"forged-{kind}.out")
        with open(path, "w") as f:
            for writer, sequence, sent, answered, verdict, *more in lines:
                fields = [writer, sequence, sent * MS, answered * MS, verdict, "n1:5432", *more[:2]]
                f.write(" ".join(map(str, fields + [",".join(map(str, seen)) for seen in more[2:]])) + "\n")
        files[path] = kind
    ledger = Ledger(files)
    ledger.update()
    return types.SimpleNamespace(ledger=ledger, watched=WATCHED, database=None, leader=lambda: Leader(record))


def lose(table, row):
    return lambda r: r.tables[table].discard(row)


def read(at, *fields):
    """Another reading; the answer comes 5 ms later."""
    return lambda r: r.lines["reader"].append((9001, at, at, at + 5, *fields))


TOTAL = ACCOUNTS * BALANCE
FORGERIES = [
    ("an appended value is lost", check.acknowledged_values_are_on_the_leader, lose("acknowledged", (1000, 2))),
    ("a value of a committed prepared transaction is lost", check.acknowledged_values_are_on_the_leader,
     lose("acknowledged", (6000, 1))),
    ("a prepared transaction is gone", check.prepared_transactions_are_kept, lambda r: r.prepared.clear()),
    ("a transfer is lost", check.transfers_are_on_the_leader, lose("transfers", (8000, 1))),
    ("a confirmed reading is lost", check.confirmed_readings_are_on_the_leader, lose("readings", (9000, 1))),
    ("money is lost", check.bank_total_never_changed, lambda r: r.accounts.update({1: 0})),
    ("half a transfer is lost, and made up for", check.bank_total_never_changed,
     lambda r: r.accounts.update({1: BALANCE, 2: BALANCE})),
    ("a reader saw another total, unconfirmed", check.bank_total_never_changed,
     read(220, "U", 2, TOTAL - 7, [1, 1, 1])),
    ("a reader saw less than another before", check.readers_never_saw_less, read(670, "A", 3, TOTAL, [1, 1, 3])),
    ("a reader did not see what was acknowledged before", check.readers_never_saw_less,
     read(15, "A", 2, TOTAL, [0, 0, 0])),
    ("an old leader acknowledged after the new one", check.no_earlier_leader_acknowledged_after_a_later_one,
     lambda r: r.lines["direct"].append((7001, 1, 640, 645, "A", 2)))]


def accepted(look, world):
    try:
        look(world)
        return True
    except AssertionError:
        return False


def undetected(directory):
    """What the checks got wrong: names of forgeries that passed, of honest records that did not."""
    looks = list(dict.fromkeys(look for _, look, _ in FORGERIES))
    wrong = [f"{look.__name__} refuses honest records" for look in looks
             if not accepted(look, world_of(honest(), directory))]
    for name, look, forge in FORGERIES:
        record = copy.deepcopy(honest())
        forge(record)
        if accepted(look, world_of(record, directory)):
            wrong.append(f"{look.__name__} does not see that {name}")
    return wrong
