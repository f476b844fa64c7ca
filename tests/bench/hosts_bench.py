#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Whole hosts: TCP between two latchkeyd on a unix: wire, clear and ESP, against a plain AF_UNIX pipe of the same
program count in the same run; `setkey -f` end to end against parsing the file alone. Prints; never fails for being slow.

usage: hosts_bench.py [MEGABYTES] [SAs]        LATCHKEY_BUILD names the build directory"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

BUILD = os.environ.get("LATCHKEY_BUILD", "build/release")
BIN, EXAMPLES = os.path.join(BUILD, "bin"), os.path.join(BUILD, "examples")
MEGABYTES = int(sys.argv[1]) if len(sys.argv) > 1 else 128
SAS = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
GCM = "-E aes-gcm-16 0x000102030405060708090a0b0c0d0e0f10111213"


def rules(me, peer, first):
    a, b = (me, peer) if first else (peer, me)
    return (f"flush; spdflush;\nadd {a} {b} esp 0x1001 -r 64 {GCM};\nadd {b} {a} esp 0x1002 -r 64 {GCM};\n"
            f"spdadd {me} {peer} any -P out ipsec esp/transport//require;\n"
            f"spdadd {peer} {me} any -P in ipsec esp/transport//require;\n")


class Host:
    def __init__(self, work, name, address):
        self.socket = os.path.join(work, name + ".sock")
        self.env = dict(os.environ, LATCHKEY=self.socket)
        self.process = subprocess.Popen(
            [os.path.join(BIN, "latchkeyd"), "--foreground", "--socket", self.socket, "--wire",
             "unix:" + os.path.join(work, "lan"), "--address", address + "/24"], stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"

    def setkey(self, script):
        subprocess.run([os.path.join(BIN, "setkey"), "-k", "-f", "-"], input=script.encode(), env=self.env, check=True)

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.terminate()
        self.process.wait()


def transfer(sender, receiver, address, megabytes):
    """Megabytes per second of wall time, and CPU nanoseconds per byte of both hosts."""
    program = os.path.join(EXAMPLES, "tcp_transfer")
    taker = subprocess.Popen([program, "receive", "5001"], env=receiver.env, stdout=subprocess.DEVNULL)
    time.sleep(0.2)
    before = sender.cpu() + receiver.cpu()
    begin = time.monotonic()
    giver = subprocess.Popen([program, "send", address, "5001"], env=sender.env, stdin=subprocess.PIPE)
    block = os.urandom(1 << 20)
    for _ in range(megabytes):
        giver.stdin.write(block)
    giver.stdin.close()
    assert giver.wait() == 0 and taker.wait() == 0
    seconds = time.monotonic() - begin
    return megabytes / seconds, (sender.cpu() + receiver.cpu() - before) / megabytes * 1e9 / (1 << 20)


def pipe_rate(megabytes):
    """The bound: the same bytes through three AF_UNIX hops, as a stream between two programs takes through two hosts."""
    ends = [socket.socketpair() for _ in range(3)]

    def copy(a, b):
        while data := a.recv(65536):
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)

    threads = [threading.Thread(target=copy, args=(ends[i][1], ends[i + 1][0])) for i in range(2)]
    for t in threads:
        t.start()
    begin = time.monotonic()

    def give():
        block = bytes(65536)
        for _ in range(megabytes * 16):
            ends[0][0].sendall(block)
        ends[0][0].shutdown(socket.SHUT_WR)

    giver = threading.Thread(target=give)
    giver.start()
    while ends[2][1].recv(65536):
        pass
    return megabytes / (time.monotonic() - begin)


def adds(host, count, work):
    path = os.path.join(work, "adds.conf")
    with open(path, "w") as f:
        for i in range(count):
            f.write(f"add 10.0.0.1 10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255} esp {0x10000 + i:#x} "
                    f"-E aes-gcm-16 0x{i:040x};\n")
    begin = time.monotonic()
    subprocess.run([os.path.join(BIN, "setkey"), "-f", path], env=host.env, check=True)
    added = time.monotonic() - begin
    begin = time.monotonic()
    out = subprocess.run([os.path.join(BIN, "setkey"), "-D"], env=host.env, check=True, stdout=subprocess.PIPE).stdout
    dumped = time.monotonic() - begin
    assert out.count(b"state=mature") == count, out.count(b"state=mature")
    with open(f"/proc/{host.process.pid}/status") as f:
        rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
    begin = time.monotonic()
    subprocess.run([os.path.join(BIN, "setkey"), "-F"], env=host.env, check=True)
    flushed = time.monotonic() - begin
    begin = time.monotonic()
    subprocess.run([os.path.join(BIN, "setkey"), "--atomic", "-f", path], env=host.env, check=True)
    whole = time.monotonic() - begin
    begin = time.monotonic()
    subprocess.run([os.path.join(BIN, "setkey"), "--check", "-f", path], check=True)
    checked = time.monotonic() - begin
    return {"added": count / added, "dumped": count / dumped, "flushed": count / flushed, "whole": count / whole,
            "checked": count / checked, "rss": rss}


def main():
    work = tempfile.mkdtemp(prefix="latchkey-bench.")
    hosts = []
    try:
        a, b = Host(work, "a", "10.0.0.1"), Host(work, "b", "10.0.0.2")
        hosts = [a, b]
        bound = pipe_rate(MEGABYTES)
        print(f"AF_UNIX, three hops, no stack:      {bound:8.0f} MB/s")
        transfer(a, b, "10.0.0.2", 8)
        clear, clear_cpu = transfer(a, b, "10.0.0.2", MEGABYTES)
        print(f"TCP between two hosts, clear:       {clear:8.1f} MB/s  {clear_cpu:6.2f} ns/byte of both hosts  ratio to the hops {clear / bound:.2f}")
        a.setkey(rules("10.0.0.1", "10.0.0.2", True))
        b.setkey(rules("10.0.0.2", "10.0.0.1", False))
        esp, esp_cpu = transfer(a, b, "10.0.0.2", MEGABYTES)
        print(f"TCP between two hosts, AES-128-GCM: {esp:8.1f} MB/s  {esp_cpu:6.2f} ns/byte of both hosts  ratio to clear {esp / clear:.2f}")
        a.setkey("flush; spdflush;")
        rates = adds(a, SAS, work)
        print(f"setkey -f, {SAS} adds end to end:  {rates['added']:8.0f} adds/s (target 200000)")
        print(f"setkey --atomic, the same file:     {rates['whole']:8.0f} adds/s  ratio to -f {rates['whole'] / rates['added']:.2f}")
        print(f"setkey --check, no host (the bound):{rates['checked']:8.0f} adds/s")
        print(f"setkey -F:                          {rates['flushed']:8.0f} SAs/s")
        print(f"setkey -D of {SAS} SAs:            {rates['dumped']:8.0f} SAs/s; the host's RSS is then {rates['rss'] / 1024:.1f} MiB")
    finally:
        for host in hosts:
            host.stop()
        shutil.rmtree(work)


main()
