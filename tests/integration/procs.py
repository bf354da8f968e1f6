"""Processes, ports, deadlines: what every test of real servers needs."""

import os
import pwd
import random
import signal
import socket
import subprocess
import time

SLOW = float(os.environ.get("OGEL_TEST_SLOW", "1"))     # sanitizer builds multiply deadlines
POLL_S = 0.01


def wait(cond, deadline_s, what):
    """Calls cond() until it returns something true, and returns that; TimeoutError names
    `what` and the last thing that went wrong. Exceptions of cond() mean "not yet"."""
    end = time.monotonic() + deadline_s * SLOW
    last = None
    while True:
        try:
            got = cond()
            if got:
                return got
            last = None
        except (AssertionError, OSError, LookupError, ValueError, TransientError) as e:
            last = e
        if time.monotonic() >= end:
            why = f": {type(last).__name__}: {last}" if last else ""
            raise TimeoutError(f"not within {deadline_s * SLOW:g} s: {what}{why}")
        time.sleep(POLL_S)


class TransientError(Exception):
    """Something that wait() may try again."""


def postgres_user():
    """The account servers run as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    return pwd.getpwnam(os.environ.get("OGEL_TEST_USER", "postgres"))


def as_postgres():
    """Popen arguments that drop root's rights."""
    user = postgres_user()
    if user is None:
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid,
            "extra_groups": os.getgrouplist(user.pw_name, user.pw_gid)}


def give(path):
    user = postgres_user()
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid)
    return path


def make_dir(path, mode=0o700):
    os.makedirs(path, exist_ok=True)
    os.chmod(path, mode)
    return give(path)


def write_file(path, text, mode=0o600):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as f:
        f.write(text)
    os.chmod(path, mode)
    return give(path)


_ports_given = set()


def free_port(host="127.0.0.1"):
    """A port below the kernel's range for outgoing connections, so that no client of ours
    takes it between this look and the server's start; nor does a run of other tests beside this one."""
    low = int(open("/proc/sys/net/ipv4/ip_local_port_range").read().split()[0])
    lane, lanes = (int(n) for n in os.environ.get("OGEL_TEST_LANE", "0/1").split("/"))
    for _ in range(2000 * lanes):
        port = random.randrange(10240, low)
        if port in _ports_given or port % lanes != lane:
            continue
        with socket.socket() as s:
            try:
                s.bind((host, port))
            except OSError:
                continue
        _ports_given.add(port)
        return port
    raise RuntimeError("no free port")


def clean_env(**more):
    """An environment in which no PG* variable of the caller reaches a server or a client."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    env.update(LC_ALL="C.UTF-8", **more)
    return env


def alive(pid):
    """True while the process runs; a zombie does not."""
    try:
        stat = open(f"/proc/{pid}/stat").read()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def send(pids, sig):
    for pid in pids:
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            pass


def all_pids():
    return [int(d) for d in os.listdir("/proc") if d.isdigit()]


def pids_in(directory):
    """Every process whose working directory is this one, by inode: a directory that was moved or
    is seen through another mount is still the same."""
    try:
        want = os.stat(directory)
    except FileNotFoundError:
        return []
    found = []
    for pid in all_pids():
        try:
            st = os.stat(f"/proc/{pid}/cwd")
        except OSError:
            continue
        if (st.st_dev, st.st_ino) == (want.st_dev, want.st_ino):
            found.append(pid)
    return found


def descendants(pid):
    """Children of children included, parents first."""
    children = {}
    for p in all_pids():
        try:
            ppid = int(open(f"/proc/{p}/stat").read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(ppid, []).append(p)
    out, queue = [], [pid]
    while queue:
        kids = children.get(queue.pop(0), [])
        out += kids
        queue += kids
    return out


def kill_all(pids_of, deadline_s=10):
    """SIGKILLs what pids_of() names until it names nothing alive."""
    def gone():
        left = [p for p in pids_of() if alive(p)]
        send(left, signal.SIGKILL)
        return not left
    wait(gone, deadline_s, "killed processes are gone")


class Process:
    """A program of ours, its log in one file, its fate in our hands by pid."""

    def __init__(self, name, argv, log, env=None, enter=None, cwd="/"):
        self.name, self.argv, self.log, self.enter = name, argv, log, enter or []
        self.env, self.cwd, self.popen = env or clean_env(), cwd, None

    def start(self):
        assert not self.running(), f"{self.name} runs already"
        if not os.path.exists(self.log):
            write_file(self.log, "", 0o644)
        with open(self.log, "ab") as log:
            argv = self.enter + self.argv if self.enter else self.argv
            # Inside a namespace only root may enter: the wrapper drops the rights afterwards.
            rights = {} if self.enter else as_postgres()
            self.popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          env=self.env, cwd=self.cwd, start_new_session=True,
                                          **rights)
        return self

    @property
    def pid(self):
        return self.popen.pid if self.popen else None

    def running(self):
        return self.popen is not None and self.popen.poll() is None

    def signal(self, sig):
        if self.running():
            os.kill(self.pid, sig)

    def kill(self):
        self.signal(signal.SIGKILL)
        return self.reap()

    def freeze(self):
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)

    def stop(self, deadline_s=20):
        """SIGTERM; returns the exit status. What does not stop is killed, and that is an error."""
        self.signal(signal.SIGTERM)
        try:
            return self.reap(deadline_s * SLOW)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"{self.name} did not stop on SIGTERM in {deadline_s} s") from None

    def reap(self, timeout=10):
        return self.popen.wait(timeout) if self.popen else None

    def log_text(self):
        try:
            return open(self.log, errors="replace").read()
        except FileNotFoundError:
            return ""
