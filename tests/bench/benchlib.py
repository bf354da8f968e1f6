"""What the measurements share."""

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
import harness  # noqa: E402


def summary(values, digits=1):
    """Median and spread, as the tables show them."""
    if not values:
        return None
    ordered = sorted(values)
    return {"median": round(statistics.median(ordered), digits), "min": round(ordered[0], digits),
            "max": round(ordered[-1], digits), "runs": len(ordered)}


def parser(doc):
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", metavar="DIR", help="where the programs were built (default: the source tree)")
    p.add_argument("--out", metavar="FILE", help="write the JSON there as well")
    return p


@contextlib.contextmanager
def scratch(name):
    """A directory that goes when the measurement ends, however it ends."""
    root = tempfile.mkdtemp(prefix=f"ogel-{name}-")
    os.chmod(root, 0o755)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def cluster(root, **arguments):
    c = harness.Cluster(os.path.join(root, "c"), **arguments)
    try:
        c.bring_up()
        yield c
    except BaseException:
        print(c.describe(), file=sys.stderr)
        raise
    finally:
        c.close()


def report(args, result):
    text = json.dumps(result, indent=1)
    if args.out:
        with open(args.out, "w") as f:
            f.write(text + "\n")
    print(text)


def progress(text):
    print(text, file=sys.stderr, flush=True)
