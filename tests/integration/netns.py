"""Machines made of namespaces: each has its own network stack, address, mounts, /dev/shm and System V
shared memory; one bridge, itself in a namespace, joins them. Nothing of the host's network changes."""

import contextlib
import ctypes
import os
import re
import shutil
import subprocess

import procs

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def available():
    """None, or why namespaces cannot be had here."""
    if os.geteuid() != 0:
        return "needs root"
    for tool in ("ip", "nft", "unshare", "nsenter", "setpriv"):
        if not shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            return f"needs {tool}"
    if subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True).returncode:
        return "needs namespaces"
    return None


class Machine:
    """One set of namespaces, held by a sleeping process."""

    def __init__(self, name, address=None):
        self.name, self.address = name, address
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--ipc", "--propagation", "private", "sleep", "infinity"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
        root = os.readlink("/proc/self/ns/net")
        procs.wait(lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != root, 10,
                   f"the namespaces of {name}")
        procs.wait(lambda: open(f"/proc/{self.holder.pid}/comm").read().strip() == "sleep", 10,
                   f"the holder of {name}")
        self.run("ip", "link", "set", "lo", "up")

    def enter(self, drop_rights=False):
        """argv prefix that runs a program inside."""
        argv = ["nsenter", "-t", str(self.holder.pid), "--net", "--mount", "--ipc", "--"]
        user = procs.postgres_user()
        if drop_rights and user is not None:
            argv += ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups",
                     "--"]
        return argv

    def run(self, *argv, text=None):
        done = subprocess.run(self.enter() + list(argv), input=text, text=True, capture_output=True)
        if done.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(argv)}: {done.stderr.strip()}")
        return done.stdout

    @contextlib.contextmanager
    def network(self):
        """This thread's new sockets belong to the machine."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{self.holder.pid}/ns/net", os.O_RDONLY)
        try:
            _setns(there)
            yield
        finally:
            _setns(here)
            os.close(here)
            os.close(there)

    def close(self):
        self.holder.kill()
        self.holder.wait()


def _setns(fd):
    if _libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


NFT = """
table inet cut {
    set from { type ipv4_addr; }
    set to { type ipv4_addr; }
    chain input { type filter hook input priority 0; ip saddr @from counter drop; }
    chain output { type filter hook output priority 0; ip daddr @to counter drop; }
}
"""


class Network:
    """A bridge and the machines on it; cuts are silent, as a pulled cable is."""

    def __init__(self, names, prefix="10.77.0."):
        self.machines = {}
        self.switch = Machine("switch")
        try:
            self.switch.run("ip", "link", "add", "name", "br0", "type", "bridge")
            self.switch.run("ip", "link", "set", "br0", "up")
            for i, name in enumerate(names):
                self._plug(name, f"{prefix}{i + 11}", i)
        except BaseException:
            self.close()
            raise

    def _plug(self, name, address, i):
        m = self.machines[name] = Machine(name, address)
        self.switch.run("ip", "link", "add", f"p{i}", "type", "veth", "peer", "name", "eth0",
                        "netns", str(m.holder.pid))
        self.switch.run("ip", "link", "set", f"p{i}", "master", "br0", "up")
        m.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        m.run("ip", "link", "set", "eth0", "up")
        m.run("nft", "-f", "-", text=NFT)
        m.run("mount", "-t", "tmpfs", "-o", "mode=1777", "none", "/dev/shm")

    def hide(self, name, directories):
        """Makes these directories unreachable inside machine `name`."""
        for d in directories:
            self.machines[name].run("mount", "-t", "tmpfs", "-o", "mode=000,size=4k", "none", d)

    def cut_one_way(self, src, dst):
        """Nothing sent by src reaches dst; the other direction works."""
        m = self.machines
        m[dst].run("nft", "add", "element", "inet", "cut", "from", f"{{ {m[src].address} }}")

    def cut(self, a, b):
        self.cut_one_way(a, b)
        self.cut_one_way(b, a)

    def isolate(self, name, but=()):
        """Cuts the machine from all others, except those named."""
        m = self.machines
        others = ", ".join(o.address for n, o in m.items() if n != name and n not in but)
        m[name].run("nft", "-f", "-", text=f"add element inet cut from {{ {others} }}\n"
                    f"add element inet cut to {{ {others} }}\n")

    def mend_one_way(self, src, dst):
        """Lifts one cut_one_way(); one that is not there any more is no error."""
        m = self.machines
        with contextlib.suppress(RuntimeError):
            m[dst].run("nft", "delete", "element", "inet", "cut", "from", f"{{ {m[src].address} }}")

    def join(self, name):
        """Lifts an isolate(), and every cut towards this machine."""
        self.machines[name].run("nft", "-f", "-", text="flush set inet cut from\nflush set inet cut to\n")

    def dropped(self):
        """How many packets ran into cuts so far."""
        listed = [m.run("nft", "list", "table", "inet", "cut") for m in self.machines.values()]
        return sum(int(n) for text in listed for n in re.findall(r"counter packets (\d+)", text))

    def heal(self):
        for name in self.machines:
            self.join(name)

    def close(self):
        for m in self.machines.values():
            m.close()
        self.switch.close()
