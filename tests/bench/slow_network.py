#!/usr/bin/env python3
"""A network of nodes on one machine, with the rate and delay of choice, and an MPI program on it: what ranks of many machines wait for.

usage: slow_network.py [--nodes N] [--gbit RATE] [--delay MILLISECONDS] PROGRAM [ARGUMENT...]       (as root, with MPICH)

Each node is a network namespace with a host name of its own; its interface, a TUN device, leads to this program, which passes
packets on as a switch would: each node sends and receives no more than RATE at a time, and every packet takes the delay. (tc netem
does the same, where the kernel has it.) One rank of PROGRAM runs on each node and speaks TCP.
"""
import argparse
import collections
import fcntl
import heapq
import itertools
import os
import pathlib
import select
import struct
import subprocess
import sys
import tempfile
import threading
import time

MTU = 65000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
# What mpiexec takes for ssh: options, a host, the words of a command.
REMOTE = """#!/bin/sh
while [ "${{1#-}}" != "$1" ]; do shift; done
node={prefix}${{1##*.}}
shift
exec ip netns exec $node unshare --uts sh -c "hostname $node; exec $*"
"""


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def enter(namespace):
    fd = os.open(namespace, os.O_RDONLY)
    if hasattr(os, "setns"):
        os.setns(fd, os.CLONE_NEWNET)
    else:
        import ctypes
        if ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000):
            sys.exit(f"slow_network.py: {namespace}: {os.strerror(ctypes.get_errno())}")
    os.close(fd)


def add_node(name, number):
    """Its end of the wire, a file that packets are read from and written to."""
    ip("netns", "add", name)
    enter(f"/run/netns/{name}")
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"t0", IFF_TUN | IFF_NO_PI))
    ip("address", "add", f"10.9.0.{number}/24", "dev", "t0")
    ip("link", "set", "t0", "mtu", str(MTU), "txqueuelen", "10000", "up")
    ip("link", "set", "lo", "up")
    try:
        pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text("cubic")  # which most have, of this namespace alone
    except OSError:
        pass
    return fd


class Switch(threading.Thread):
    def __init__(self, ports, bytes_per_second, delay):
        super().__init__(daemon=True)
        self.ports, self.rate, self.delay = ports, bytes_per_second, delay
        self.sent = [0.0] * len(ports)      # until when each sends what it has been given so far
        self.received = [0.0] * len(ports)  # and receives what has arrived
        self.under_way = []                 # heap of (arrives, number, target, packet)
        self.arrived = [collections.deque() for _ in ports]  # by target, (received as a whole, packet)
        self.numbers = itertools.count()

    def take(self, source, packet):
        if packet[0] >> 4 != 4 or not 1 <= packet[19] <= len(self.ports):
            return
        self.sent[source] = max(time.monotonic(), self.sent[source]) + len(packet) / self.rate
        heapq.heappush(self.under_way, (self.sent[source] + self.delay, next(self.numbers), packet[19] - 1, packet))

    def pass_on(self):
        """What is due; when more will be."""
        now = time.monotonic()
        while self.under_way and self.under_way[0][0] <= now:
            arrives, _, target, packet = heapq.heappop(self.under_way)
            # It is received while it is sent, unless others are received.
            self.received[target] = max(arrives, self.received[target] + len(packet) / self.rate)
            self.arrived[target].append((self.received[target], packet))
        for target, queue in enumerate(self.arrived):
            while queue and queue[0][0] <= now:
                os.write(self.ports[target], queue.popleft()[1])
        return min([queue[0][0] for queue in self.arrived if queue] + [e[0] for e in self.under_way[:1]], default=now + 0.05)

    def run(self):
        poll, source_of = select.poll(), {fd: i for i, fd in enumerate(self.ports)}
        for fd in self.ports:
            poll.register(fd, select.POLLIN)
        while True:
            left = self.pass_on() - time.monotonic()
            for fd, _ in poll.poll(max(0, int(1000 * left))):  # within the last millisecond it asks again and again
                for _ in range(16):
                    try:
                        self.take(source_of[fd], os.read(fd, MTU + 100))
                    except BlockingIOError:
                        break


def main():
    p = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].removeprefix("usage: "))
    p.add_argument("--nodes", type=int, default=4)
    p.add_argument("--gbit", type=float, default=1)
    p.add_argument("--delay", type=float, default=1)
    p.add_argument("command", nargs=argparse.REMAINDER)
    args = p.parse_args()
    prefix = f"kv{os.getpid()}n"
    names = [f"{prefix}{i + 1}" for i in range(args.nodes)]
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        ports = [add_node(name, i + 1) for i, name in enumerate(names)]
        Switch(ports, args.gbit * 1e9 / 8, args.delay / 1e3).start()
        with tempfile.TemporaryDirectory() as dir:
            remote = os.path.join(dir, "remote")
            with open(remote, "w") as out:
                out.write(REMOTE.format(prefix=prefix))
            os.chmod(remote, 0o700)
            hosts = ",".join(f"10.9.0.{i + 1}" for i in range(args.nodes))
            environment = dict(os.environ, UCX_TLS="tcp,self", UCX_NET_DEVICES="t0")
            status = subprocess.run(
                ["ip", "netns", "exec", names[0], "unshare", "--uts", "sh", "-c", f"hostname {names[0]}; exec \"$@\"", "sh", "mpiexec.hydra", "-launcher", "ssh", "-launcher-exec", remote,
                 "-hosts", hosts, "-ppn", "1", "-n", str(args.nodes), "-iface", "t0", "-localhost", "10.9.0.1", *args.command],
                env=environment).returncode
    finally:
        enter(f"/proc/self/fd/{home}")
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL)
    sys.exit(status)


main()
