#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""One host and 50 PF_KEY clients that add, dump, delete, flush, listen and die at random. Whatever they do, the host
stays, a well-behaved client is answered, nothing is left of the dead, and memory does not grow.
usage: pfkey_soak.py [--seconds N] [--clients N] [--seed N]"""
import argparse
import errno
import os
import random
import select
import signal
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "interop"))
from peers import PATIENCE, expect, main, wait_until

PF_KEY, PF_KEY_V2 = 15, 2
GETSPI, UPDATE, ADD, DELETE, GET, REGISTER, FLUSH, DUMP, PROMISC = 1, 2, 3, 4, 5, 7, 9, 10, 11
SPDADD, SPDDELETE, SPDDUMP, SPDFLUSH, BATCH = 14, 15, 18, 19, 64
ESP = 3
EXPECTED = {0, errno.ENOENT, errno.ESRCH, errno.EEXIST, errno.EBUSY, errno.ECANCELED}


# ---- messages ---------------------------------------------------------------------------------------------------------

def message(kind, satype, seq, *extensions):
    body = b"".join(extensions)
    return struct.pack("=BBBBHHII", PF_KEY_V2, kind, 0, satype, 2 + len(body) // 8, 0, seq, os.getpid()) + body


def extension(kind, body):
    body += bytes(-(len(body) + 4) % 8)
    return struct.pack("=HH", (len(body) + 4) // 8, kind) + body


def address(kind, text):
    return extension(kind, struct.pack("=BBH", 255, 32, 0) + struct.pack("=HH4s8x", 2, 0, socket.inet_aton(text)))


def ends(peer):
    return address(5, "10.0.0.1") + address(6, peer)


def association(spi, state=1):
    return extension(1, struct.pack(">I", spi) + struct.pack("=BBBBI", 32, state, 5, 12, 0))


def keys():
    return (extension(9, struct.pack("=HH", 128, 0) + bytes(range(16))) +
            extension(8, struct.pack("=HH", 256, 0) + bytes(range(32))))


def policy():
    request = struct.pack("=HHBBHII", 16, 50, 1, 2, 0, 0, 0)
    return extension(18, struct.pack("=HBBII", 2, 2, 0, 0, 0) + request)


# ---- a client ---------------------------------------------------------------------------------------------------------

class Client:
    def __init__(self):
        self.socket = socket.socket(PF_KEY, socket.SOCK_RAW, PF_KEY_V2)
        self.seq = 0

    def send(self, record):
        """False: the host wants its answers read first."""
        try:
            self.socket.send(record)
            return True
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            return False

    def read(self, seconds=PATIENCE):
        if not select.select([self.socket], [], [], seconds)[0]:
            raise SystemExit("no answer came")
        return self.socket.recv(65536)

    def drain(self):
        while select.select([self.socket], [], [], 0)[0]:
            self.socket.recv(65536)

    def answer(self, seq):
        """The errno of our answer; what others did is passed over."""
        while True:
            _, kind, error, _, _, _, number, sender = struct.unpack("=BBBBHHII", self.read()[:16])
            if sender == os.getpid() and number == seq and kind != PROMISC:
                return error

    def request(self, kind, satype, *extensions):
        self.seq += 1
        while not self.send(message(kind, satype, self.seq, *extensions)):
            self.drain()
        return self.seq

    def ask(self, kind, satype, *extensions):
        error = self.answer(self.request(kind, satype, *extensions))
        if error not in EXPECTED:
            raise SystemExit(f"message {kind}: errno {error}")
        return error

    def dump(self, kind, most=None):
        """Reads so many records of a dump, or all."""
        seq = self.request(kind, 0)
        count = 0
        while most is None or count < most:
            record = self.read()
            _, got, error, _, _, _, number, sender = struct.unpack("=BBBBHHII", record[:16])
            if got != kind or sender != os.getpid():
                continue
            if error != 0:
                return 0 if error in (errno.ENOENT, errno.EBUSY) else sys.exit(f"dump: errno {error}")
            count += 1
            if number == 0:
                break
        self.seq = max(self.seq, seq)
        return count


class Worker:
    """Does one thing after the other, and dies in the middle of some."""

    def __init__(self, seed, number, report):
        self.chance = random.Random(seed)
        self.number, self.report = number, report
        self.client = Client()
        self.took = []

    def run(self, end):
        acts = [self.associations, self.associations, self.policies, self.policies, self.larval, self.batch, self.dumps,
                self.garbage, self.listener, self.half_dump, self.flush, self.reopen]
        while time.monotonic() < end:
            self.chance.choice(acts)()
            if self.chance.random() < 0.03:
                self.die()
        self.tell()

    def die(self):
        self.tell()
        os.kill(os.getpid(), signal.SIGKILL)

    def peer(self):
        return f"10.{1 + self.number}.{self.chance.randrange(4)}.{self.chance.randrange(250)}"

    def timed(self, *words):
        start = time.monotonic()
        error = self.client.ask(*words)
        self.took.append(time.monotonic() - start)
        if len(self.took) >= 100:
            self.tell()
        return error

    def tell(self):
        if self.took:
            os.write(self.report, struct.pack(f"={len(self.took)}f", *self.took))   # short enough to stay whole
            self.took = []

    def associations(self):
        added = [(self.peer(), self.chance.randrange(0x1000, 0x10000)) for _ in range(self.chance.randrange(1, 30))]
        for peer, spi in added:
            self.timed(ADD, ESP, association(spi), ends(peer), keys())
        for peer, spi in added:
            self.timed(GET, ESP, association(spi), ends(peer))
            if self.chance.random() < 0.8:
                self.timed(DELETE, ESP, association(spi), ends(peer))

    def policies(self):
        peers = {self.peer() for _ in range(self.chance.randrange(1, 30))}
        for peer in peers:
            self.timed(SPDADD, 0, ends(peer), policy())
        for peer in peers:
            self.timed(SPDDELETE, 0, ends(peer), policy())

    def larval(self):
        self.timed(GETSPI, ESP, ends(self.peer()))

    def batch(self):
        self.timed(BATCH, 1)
        for _ in range(self.chance.randrange(20)):
            self.client.request(ADD, ESP, association(self.chance.randrange(0x1000, 0x10000)), ends(self.peer()), keys())
        if self.chance.random() < 0.2:
            self.die()
        failing = self.chance.random() < 0.5
        if failing:
            self.client.request(DELETE, ESP, association(0xffffff), ends("10.255.255.255"))
        error = self.timed(BATCH, 2)
        if failing and error != errno.ECANCELED:
            sys.exit("half a batch was done")

    def dumps(self):
        self.client.dump(self.chance.choice([DUMP, SPDDUMP]))

    def half_dump(self):
        self.client.dump(self.chance.choice([DUMP, SPDDUMP]), self.chance.randrange(10))
        self.die() if self.chance.random() < 0.5 else self.reopen()

    def listener(self):
        """Registers or goes promiscuous, and reads nothing while everybody else is at work."""
        deaf = Client()
        deaf.request(*self.chance.choice([(REGISTER, ESP), (PROMISC, 1)]))
        time.sleep(self.chance.random() * 0.3)
        if self.chance.random() < 0.3:
            self.die()
        deaf.drain()
        deaf.socket.close()

    def garbage(self):
        body = self.chance.randbytes(8 * self.chance.randrange(0, 30))
        record = bytearray(message(self.chance.randrange(30), ESP, 0, body))
        if self.chance.random() < 0.5:
            record[4] ^= 1 + self.chance.randrange(255)
        try:
            self.client.socket.send(bytes(record))
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOBUFS):
                raise
        self.reopen()

    def flush(self):
        if self.chance.random() < 0.3:
            self.timed(*self.chance.choice([(FLUSH, 0), (FLUSH, ESP), (SPDFLUSH, 0)]))

    def reopen(self):
        self.client.socket.close()
        self.client = Client()


# ---- the crowd: runs with the preload library -------------------------------------------------------------------------

def crowd(options):
    """Keeps so many workers alive; whoever dies by its own hand is replaced, whoever fails ends everything."""
    end = time.monotonic() + options.seconds
    report_in, report_out = os.pipe()
    collector = os.fork()
    if collector == 0:
        os.close(report_out)
        collect(report_in)
        os._exit(0)
    os.close(report_in)
    chance = random.Random(options.seed)
    alive, died = {}, 0
    while time.monotonic() < end or alive:
        while len(alive) < options.clients and time.monotonic() < end:
            number = next(n for n in range(options.clients) if n not in alive.values())
            seed = chance.random()
            child = os.fork()
            if child == 0:
                Worker(seed, number, report_out).run(end)
                os._exit(0)
            alive[child] = number
        child, status = os.wait()
        if alive.pop(child, None) is None:
            sys.exit("the collector ended")
        died += os.WIFSIGNALED(status)
        if status not in (0, signal.SIGKILL):
            sys.exit(f"a client ended with status {status}")
    os.close(report_out)
    os.wait()
    print(f"{died} clients died")


def collect(pipe):
    took = []
    while record := os.read(pipe, 400):
        took += struct.unpack(f"={len(record) // 4}f", record[:len(record) // 4 * 4])
    took.sort()
    if not took:
        sys.exit("no request was answered")
    at = lambda share: took[int(share * (len(took) - 1))] * 1e3
    print(f"{len(took)} requests answered: median {at(0.5):.2f} ms, p99 {at(0.99):.2f} ms, worst {at(1):.1f} ms", flush=True)


def last_check():
    """A client after the storm: everything can be removed, and then nothing is there."""
    client = Client()
    if client.ask(FLUSH, 0) or client.ask(SPDFLUSH, 0) or client.dump(DUMP) or client.dump(SPDDUMP):
        sys.exit("something is left after the flush")
    if client.ask(ADD, ESP, association(0x1000), ends("10.0.0.2"), keys()) or client.dump(DUMP) != 1:
        sys.exit("an SA cannot be added after the storm")


# ---- the scenario -----------------------------------------------------------------------------------------------------

def resident(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def descriptors(process):
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def body(lab, options):
    os.environ.setdefault("ASAN_OPTIONS", "quarantine_size_mb=16")   # what waits there to be misused is not growth
    host = lab.host("soaked", "--wire", f"unix:{lab.path('wire')}", "--address", "10.0.0.1/24")
    opened = descriptors(host.process)
    mine = [sys.executable, "-B", os.path.abspath(__file__), "--seconds", str(options.seconds), "--clients",
            str(options.clients), "--seed", str(options.seed)]
    clients = host.start("latchkey", "run", "--", *mine, "--crowd")
    sizes = []
    while clients.poll() is None:
        expect(host.process.poll() is None, f"the host ended with {host.process.returncode}")
        sizes.append(resident(host.process))
        time.sleep(0.25)
    expect(clients.returncode == 0, f"the clients ended with status {clients.returncode}")
    third = len(sizes) // 3
    expect(third > 0, "the clients ended at once")
    early, late = max(sizes[third:2 * third]), max(sizes[2 * third:])
    expect(late < early * 1.25 + 16384, f"the host grew from {early} to {late} KiB")
    wait_until(lambda: descriptors(host.process) <= opened, "the host closes the sockets of dead clients")
    done = host.run("latchkey", "run", "--", *mine, "--last-check")
    expect(done.returncode == 0, done.stdout)
    print(f"pfkey soak: {options.clients} clients, {options.seconds} s (seed {options.seed}); the host takes {late} KiB")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--crowd", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--last-check", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    OPTIONS = arguments()
    if OPTIONS.crowd:
        crowd(OPTIONS)
    elif OPTIONS.last_check:
        last_check()
    else:
        sys.exit(main(lambda lab: body(lab, OPTIONS)))
