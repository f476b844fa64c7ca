#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A soak for tests/run.sh --long: two hosts on a lossy wire, clients that add, dump, delete and are killed at random while
TCP runs through ESP. The hosts must stay, serve, and not grow.   usage: soak.py [SECONDS]"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

BUILD = os.environ.get("LATCHKEY_BUILD", "build/asan")
BIN, EXAMPLES = os.path.join(BUILD, "bin"), os.path.join(BUILD, "examples")
os.environ.setdefault("ASAN_OPTIONS", "quarantine_size_mb=16")   # what waits there to be misused is not growth
SECONDS = int(sys.argv[1]) if len(sys.argv) > 1 else 120
KEY = "-E aes-gcm-16 0x000102030405060708090a0b0c0d0e0f10111213"
RULES = "add 10.0.0.1 10.0.0.2 esp 0x1001 -r 255 {k}; add 10.0.0.2 10.0.0.1 esp 0x1002 -r 255 {k};\n" \
        "spdadd {me} {peer} any -P out ipsec esp/transport//require;\n" \
        "spdadd {peer} {me} any -P in ipsec esp/transport//require;\n"


class Host:
    def __init__(self, work, name, number):
        self.env = dict(os.environ, LATCHKEY=os.path.join(work, name + ".sock"))
        self.process = subprocess.Popen(
            [os.path.join(BIN, "latchkeyd"), "--foreground", "--socket", self.env["LATCHKEY"], "--wire",
             f"unix:{work}/lan,loss=0.2,duplicate=0.2,reorder=0.5,seed={number}", "--address", f"10.0.0.{number}/24"],
            stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"
        me, peer = f"10.0.0.{number}", f"10.0.0.{3 - number}"
        self.setkey(RULES.format(k=KEY, me=me, peer=peer))

    def setkey(self, script, *options):
        return subprocess.run([os.path.join(BIN, "setkey"), *options, "-k", "-f", "-"], input=script.encode(), env=self.env,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def rss(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def churn(host, end, seed):
    chance = random.Random(seed)
    while time.monotonic() < end:
        base = 0x100000 + seed * 0x1000
        adds = "".join(f"add 10.0.0.1 10.8.{seed}.{i} esp {base + i:#x} {KEY};\n" for i in range(200))
        deletes = "".join(f"delete 10.0.0.1 10.8.{seed}.{i} esp {base + i:#x};\n" for i in range(200))
        host.setkey(adds)
        dump = subprocess.Popen([os.path.join(BIN, "setkey"), "-D"], env=host.env, stdout=subprocess.PIPE)
        if chance.random() < 0.5:
            dump.stdout.read(chance.randrange(1, 4096))
            dump.kill()
        else:
            dump.stdout.read()
        dump.wait()
        host.setkey(deletes)


def traffic(a, b, end, failures, done):
    program = os.path.join(EXAMPLES, "tcp_transfer")
    data = os.urandom(1 << 20)
    while time.monotonic() < end:
        output = tempfile.TemporaryFile()   # a pipe that nobody reads meanwhile would stop both
        taker = subprocess.Popen([program, "receive", "5001"], env=b.env, stdout=output)
        time.sleep(0.3)
        giver = subprocess.run([program, "send", "10.0.0.2", "5001"], env=a.env, input=data, stderr=subprocess.DEVNULL)
        if giver.returncode != 0:   # not listening yet
            taker.kill()
        ended = taker.wait()
        output.seek(0)
        got = output.read()
        output.close()
        if giver.returncode == 0 and (got != data or ended != 0):
            failures.append("a TCP transfer was not intact")
            return
        done.append(len(got))


def main():
    work = tempfile.mkdtemp(prefix="latchkey-soak.")
    hosts, failures, done = [], [], []
    try:
        hosts = a, b = [Host(work, "a", 1), Host(work, "b", 2)]
        end = time.monotonic() + SECONDS
        threads = [threading.Thread(target=churn, args=(host, end, seed)) for seed in range(1, 7) for host in hosts]
        threads.append(threading.Thread(target=traffic, args=(a, b, end, failures, done)))
        for thread in threads:
            thread.start()
        time.sleep(SECONDS / 3)
        early = [host.rss() for host in hosts]
        for thread in threads:
            thread.join()
        for host, before in zip(hosts, early):
            if host.process.poll() is not None:
                failures.append(f"a host ended with {host.process.returncode}")
            elif host.rss() > before * 1.5 + 32768:
                failures.append(f"a host grew from {before} to {host.rss()} KiB")
        if not any(done):
            failures.append("no TCP transfer came to its end")
    finally:
        for host in hosts:
            host.process.terminate()
            if host.process.wait() != 0:
                failures.append("a host did not end cleanly")
        shutil.rmtree(work)
    print("soak:", "; ".join(failures) or f"{SECONDS} s, {sum(done) >> 20} MB of TCP, nothing found")
    return 1 if failures else 0


sys.exit(main())
