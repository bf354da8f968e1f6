"""What clients were told, gathered from their files while they grow, and what must follow from it."""

import bisect
import collections

Fact = collections.namedtuple("Fact", "sent_ns answered_ns generation")
Reading = collections.namedtuple("Reading", "sent_ns answered_ns verdict generation total seen")


class Ledger:
    """files: {path: name of the kind of client}. Kinds with tables of their own are 'bank' and 'reader'."""

    def __init__(self, files):
        self.files = {path: [kind, 0] for path, kind in files.items()}
        self.acknowledged = {kind: {} for kind in files.values()}       # (writer, sequence): Fact
        self.prepared = {}
        self.readings = []
        self.direct = []                                                # (sent, ns; server; verdict)
        self.times = []                                                 # of acknowledgements, ns
        self.verdicts = collections.Counter()

    def update(self):
        """Reads what was written since; returns how many were acknowledged in all."""
        for path, state in self.files.items():
            with open(path, "rb") as f:
                f.seek(state[1])
                new = f.read()
            new = new[:new.rfind(b"\n") + 1]
            state[1] += len(new)
            for line in new.decode().splitlines():
                self._line(state[0], line.split())
        return len(self.times)

    def _line(self, kind, fields):
        writer, sequence, sent, answered = (int(x) for x in fields[:4])
        verdict, generation = fields[4], int(fields[6]) if len(fields) > 6 else 0
        fact = Fact(sent, answered, generation)
        self.verdicts[kind, verdict] += 1
        if kind == "reader" and len(fields) > 8:
            self.readings.append(Reading(sent, answered, verdict, generation, int(fields[7]),
                                         [int(x) for x in fields[8].split(",")]))
        if kind == "direct":
            self.direct.append((sent, fields[5], verdict))
        if verdict == "P":
            self.prepared[writer, sequence] = fact
        elif verdict == "A":
            self.acknowledged[kind][writer, sequence] = fact
        if verdict in "AP":
            self.times.append(answered)

    def longest_gap_ms(self, since_ns, until_ns):
        """The longest time without any acknowledgement within the window, its ends included."""
        inside = sorted(t for t in self.times[self._first_near(since_ns):] if since_ns <= t <= until_ns)
        times = [since_ns] + inside + [until_ns]
        return max(b - a for a, b in zip(times, times[1:])) / 1e6

    def _first_near(self, since_ns):
        """Files are read in turn, so the list is in order but for the time between two updates."""
        i = len(self.times)
        slack_ns = 10_000_000_000
        while i > 0 and self.times[i - 1] >= since_ns - slack_ns:
            i -= 1
        return i

    # --- what must follow

    def appended(self):
        """Values of the table `acknowledged` that a client was told of."""
        return {v for kind, values in self.acknowledged.items() if kind not in ("bank", "reader") for v in values}

    def late(self):
        """Commits sent to an earlier leader after a later one had acknowledged something, and acknowledged: I3."""
        facts = sorted((f for values in self.acknowledged.values() for f in values.values() if f.generation),
                       key=lambda f: f.answered_ns)
        answered, greatest = [], []
        for f in facts:
            answered.append(f.answered_ns)
            greatest.append(max(f.generation, greatest[-1] if greatest else 0))
        wrong = []
        for f in facts:
            before = bisect.bisect_left(answered, f.sent_ns)
            if before and greatest[before - 1] > f.generation:
                wrong.append((f, greatest[before - 1]))
        return wrong

    def totals(self, total):
        """Readings, confirmed or not, in which the bank's total was another."""
        return [r for r in self.readings if r.total != total]

    def shrunk(self, watched):
        """Confirmed readings without something acknowledged, or confirmed as read, before they were sent."""
        lists = {w: ([], []) for w in watched}         # answered, greatest sequence until then
        known = [(f.answered_ns, w, s) for kind, values in self.acknowledged.items() if kind not in ("bank", "reader")
                 for (w, s), f in values.items() if w in lists]
        confirmed = [r for r in self.readings if r.verdict == "A"]
        known += [(r.answered_ns, w, s) for r in confirmed for w, s in zip(watched, r.seen)]
        for answered, writer, sequence in sorted(known):
            times, greatest = lists[writer]
            times.append(answered)
            greatest.append(max(sequence, greatest[-1] if greatest else 0))
        wrong = []
        for r in confirmed:
            for w, seen in zip(watched, r.seen):
                times, greatest = lists[w]
                before = bisect.bisect_left(times, r.sent_ns)
                if before and greatest[before - 1] > seen:
                    wrong.append(f"writer {w}: {greatest[before - 1]} was known, {seen} was read in generation "
                                 f"{r.generation}, {(r.sent_ns - times[before - 1]) / 1e6:.1f} ms later")
        return wrong
