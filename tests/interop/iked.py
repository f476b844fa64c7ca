#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Two unmodified OpenIKED daemons give two of our hosts their SAs and policies, through the preload library: set-up in
tunnel and transport mode, plain and in UDP, IPv4 and IPv6, traffic through what they set up, rekeying
by bytes under traffic, deletion. IKE itself runs between two namespaces of the kernel, over veth; the hosts have the same
addresses on a wire of their own."""
import contextlib
import os
import re
import signal
import sys
from typing import NamedTuple

from peers import (PATIENCE, Failed, Lab, enter_private_network, expect, ip, main, need_programs, program, run, skip, wait_until)

ENDS = {4: ("10.9.0.1", "10.9.0.2"), 6: ("fd09::1", "fd09::2")}
INNER = {4: ("10.2.0.0/24", "10.2.0.1"), 6: ("fd02::/64", "fd02::1")}   # a net behind the right one, its address there
SIDES = ("left", "right")


class Case(NamedTuple):
    name: str
    words: str               # of iked.conf
    version: int = 4
    tunnel: bool = True
    options: tuple = ()      # of iked
    childsa: str = ""
    lifetime: str = ""
    protocol: str = "esp"    # as `setkey -D` shows it


CASES = (
    Case("ESP tunnel", "tunnel esp"),
    Case("ESP transport", "transport esp", tunnel=False),
    Case("ESP tunnel, IPv6, AES-CTR and HMAC-SHA2-512", "tunnel esp", version=6,
         childsa="childsa enc aes-128-ctr auth hmac-sha2-512"),
    Case("ESP transport, IPv6, 3DES and HMAC-SHA1", "transport esp", version=6, tunnel=False,
         childsa="childsa enc 3des auth hmac-sha1"),
    Case("AH transport", "transport ah", tunnel=False, childsa="childsa auth hmac-sha2-512", protocol="ah"),
    Case("ESP in UDP", "tunnel esp", options=("-t",), protocol="esp-udp"),
)
REKEYED = Case("rekeying by bytes", "tunnel esp", lifetime="lifetime 3600 bytes 60000")


# ---- a pair of gateways ----------------------------------------------------------------------------------------------

class Side:
    """A namespace with an iked in it, and the host that gets what it negotiates."""

    def __init__(self, lab, name, case, wire):
        self.lab, self.name, self.case = lab, name, case
        self.control, self.log = lab.path(f"{name}-iked.sock"), lab.path(f"{name}-iked.log")
        mine = SIDES.index(name)
        arguments = ["--wire", f"unix:{wire}"]
        for version, ends in ENDS.items():
            length = 24 if version == 4 else 64
            arguments += ["--address", f"{ends[mine]}/{length}"]
            net, inner = INNER[version]
            arguments += ["--route", net, "via", ends[1]] if name == "left" else ["--address", f"{inner}/{length}"]
        self.host = lab.host(name, *arguments)
        self.process = None

    def configuration(self):
        left, right = ENDS[self.case.version]
        selectors = [left, INNER[self.case.version][0] if self.case.tunnel else right]
        ends, names = [left, right], [f"{side}.test" for side in SIDES]
        if self.name == "right":
            for pair in (selectors, ends, names):
                pair.reverse()
        mode = "active" if self.name == "left" else "passive"
        return (f'ikev2 "case" {mode} {self.case.words} from {selectors[0]} to {selectors[1]} '
                f'local {ends[0]} peer {ends[1]} {self.case.childsa} srcid {names[0]} dstid {names[1]} '
                f'{self.case.lifetime} psk "known to both"\n')

    def start(self):
        path = self.lab.path(f"{self.name}.conf")
        with open(path, "w", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(self.configuration())
        with open(self.log, "wb") as log:
            self.process = self.lab.start("ip", "netns", "exec", self.name, program("latchkey"), "run", "--socket",
                                          self.host.socket, "iked", "-dvv", *self.case.options, "-s", self.control,
                                          "-f", path, stdout=log, stderr=log)
        wait_until(lambda: "config_getcompile: compilation done" in self.messages(), f"the {self.name} iked is ready")

    def messages(self):
        expect(self.process.poll() is None, f"the {self.name} iked ended:\n{self.raw_log()}")
        return self.raw_log()

    def raw_log(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)

    def associations(self):
        return parse_associations(self.setkey("-D"))

    def policies(self):
        return parse_policies(self.setkey("-DP"))

    def setkey(self, option):
        done = self.host.run("setkey", option)
        expect(done.returncode == 0, f"setkey {option}: {done.stdout}")
        return done.stdout


class Association(NamedTuple):
    source: str
    destination: str
    protocol: str
    mode: str
    spi: int
    cipher: str
    auth: str
    replay: int
    state: str


def parse_associations(text):
    """`setkey -D`: one entry begins with a line at the margin; a key goes on in lines that begin with a blank."""
    found = []
    for entry in re.split(r"(?m)^(?=[0-9a-f.:]+(?:\[\d+\])? [0-9a-f.:]+(?:\[\d+\])?\s*$)", text)[1:]:
        entry = re.sub(r"\n (?=[0-9a-f])", " ", entry)
        source, destination = entry.split("\n")[0].split()
        protocol, mode, spi = re.search(r"\t(\S+) mode=(\w+) spi=(\d+)\(", entry).groups()
        keys = {letter: words.strip() for letter, words in re.findall(r"\t([EA]): (.*)", entry)}
        found.append(Association(source, destination, protocol, mode, int(spi), keys.get("E", ""), keys.get("A", ""),
                                 int(re.search(r"replay=(\d+)", entry)[1]), re.search(r"state=(\w+)", entry)[1]))
    return found


def parse_policies(text):
    """`setkey -DP`: {direction: (source, destination, request)}."""
    found = {}
    for source, destination, direction, request in re.findall(
            r"(?m)^(\S+)\[any\] (\S+)\[any\] \S+\n\t(\w+)[^\n]* ipsec\n\t(\S+)\n", text):
        expect(direction not in found, f"two policies {direction}:\n{text}")
        found[direction] = (source, destination, request)
    return found


@contextlib.contextmanager
def gateways(case):
    """Both sides, with negotiation done."""
    with Lab() as lab:
        sides = [Side(lab, name, case, lab.path("wire")) for name in SIDES]
        try:
            for side in reversed(sides):   # who answers comes first
                side.start()
            wait_until(lambda: all("-> ESTABLISHED" in side.messages() for side in sides), f"{case.name}: established")
            yield sides
            for side in sides:
                side.stop()
                side.host.stop()
        except BaseException:
            for side in sides:
                print(f"---- iked {side.name}\n{side.raw_log() if side.process else ''}")
                print(f"---- {side.name}\n{side.host.messages()}")
            raise


# ---- what must be there ----------------------------------------------------------------------------------------------

def check_associations(sides, case):
    """Two on each side, the same two, sorted. An SPI without keys is none: iked leaves that of a rekeying which crossed
    with the other side's to net.key.larval_lifetime."""
    both = []

    def settled():
        both[:] = [sorted(sa for sa in side.associations() if sa.state != "larval") for side in sides]
        return both[0] == both[1] and len(both[0]) == 2
    try:
        wait_until(settled, f"{case.name}: the same two associations on both sides")
    except Failed as failure:
        raise Failed("\n".join([str(failure), *(f"{side.name}: {sa}" for side, all_of_it in zip(sides, both)
                                                for sa in all_of_it)])) from failure
    found = both[0]
    left, right = ENDS[case.version]
    port = "[4500]" if case.protocol == "esp-udp" else ""
    expect({(sa.source, sa.destination) for sa in found} == {(left + port, right + port), (right + port, left + port)},
           f"{case.name}: {found}")
    for sa in found:
        expect(sa.protocol == case.protocol and sa.state == "mature" and sa.replay == 64, f"{case.name}: {sa}")
        expect(sa.mode == ("tunnel" if case.tunnel else "transport"), f"{case.name}: {sa}")
        expect(sa.auth and bool(sa.cipher) == (case.protocol != "ah"), f"{case.name}: a key is missing: {sa}")
    expect(len({sa.spi for sa in found}) == 2 and len({sa.auth for sa in found}) == 2,
           f"{case.name}: one SPI or key for both directions: {found}")
    return found


def check_policies(sides, case):
    left, right = ENDS[case.version]
    theirs = INNER[case.version][0] if case.tunnel else right
    mode = "tunnel" if case.tunnel else "transport"

    def request(source, destination):
        return f"{case.protocol.removesuffix('-udp')}/{mode}/{f'{source}-{destination}' if case.tunnel else ''}/require"
    outward = (left, theirs, request(left, right))
    inward = (theirs, left, request(right, left))
    for side, out, into in ((sides[0], outward, inward), (sides[1], inward, outward)):
        found = wait_until(lambda side=side: (p := side.policies()) and {"in", "out"} <= set(p) and p,
                           f"{case.name}: policies of the {side.name} one")
        expect(found["out"] == out and found["in"] == into and found.get("fwd", into) == into,
               f"{case.name}: policies of the {side.name} one: {found}, expected out {out}, in {into}")


def check_traffic(sides, case, count=5):
    """Everything goes protected, nothing is dropped."""
    target = INNER[case.version][1] if case.tunnel else ENDS[case.version][1]
    sides[0].host.ping(target, count=1)   # neighbours know each other from here on
    before = [side.host.counters() for side in sides]
    sides[0].host.ping(target, count=count, size=1000)
    for side, old in zip(sides, before):
        new = side.host.counters()
        moved = {name: new[name] - old[name] for name in ("out_protected", "in_protected")}
        expect(all(number >= count for number in moved.values()), f"{case.name}: {side.name}: {moved}")
        drops = side.host.drops_since(old)
        expect(not drops, f"{case.name}: {side.name} dropped {drops}")


# ---- the cases -------------------------------------------------------------------------------------------------------

def set_up(case):
    with gateways(case) as sides:
        check_associations(sides, case)
        check_policies(sides, case)
        check_traffic(sides, case)
        # The whole way down: both daemons take back what they gave.
        run("ikectl", "-s", sides[0].control, "reset", "sa")
        for side in sides:
            wait_until(lambda side=side: not side.associations() and not side.policies(),
                       f"{case.name}: associations and policies of the {side.name} one are deleted")
    print(f"{case.name}: set up, used, deleted")


def rekey():
    """The kernel's part in rekeying is EXPIRE, at the soft limit of bytes. A packet that is on its way while one iked has
    deleted the old association and the other has not is lost, whichever of the two associations a host prefers."""
    with gateways(REKEYED) as sides:
        check_policies(sides, REKEYED)
        first = {sa.spi for sa in check_associations(sides, REKEYED)}
        seen = set(first)
        lost = 0
        for _ in range(12):
            done = sides[0].host.run("latchkey", "ping", "-c", "10", "-i", "0.05", "-s", "1000", "-W", "1", INNER[4][1])
            received = re.search(r"(\d+) received", done.stdout)
            expect(done.returncode == 0 and received, f"{REKEYED.name}: {done.stdout}")
            lost += 10 - int(received[1])
            seen |= {sa.spi for sa in sides[0].associations()}
        last = {sa.spi for sa in check_associations(sides, REKEYED)}
        expect(not last & first and len(seen) >= 4, f"the keys were not changed: {first}, {last}, {seen}")
        times = len(seen) // 2 - 1
        expect(lost <= 2 * times, f"{REKEYED.name}: {times} times, {lost} packets lost")
        check_policies(sides, REKEYED)
        check_traffic(sides, REKEYED)
    print(f"{REKEYED.name}: {times} times, {lost} of 120 packets lost")


def without_host(lab):
    """As on a kernel without PF_KEY."""
    path = lab.path("nothing.conf")
    with open(path, "w", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write('ikev2 passive esp from 10.9.0.1 to 10.9.0.2 psk "x"\n')
    library = os.path.join(os.path.dirname(os.path.dirname(program("latchkey"))), "lib", "liblatchkey-preload.so")
    log = lab.path("nothing.log")
    with open(log, "wb") as output:
        process = lab.start("iked", "-d", "-s", lab.path("nothing.sock"), "-f", path, stdout=output, stderr=output,
                            env={**os.environ, "LATCHKEY": lab.path("none.sock"), "LD_PRELOAD": library})
    status = process.wait(PATIENCE)
    with open(log, encoding="utf-8", errors="replace") as file:
        text = file.read()
    expect(status == 1 and "Address family not supported" in text, f"iked without a host: status {status}\n{text}")


def prepare_namespaces():
    run("mount", "-t", "tmpfs", "none", "/run")   # where `ip netns` keeps them; the mount is ours alone
    os.mkdir("/run/netns")
    for side in SIDES:
        ip(f"netns add {side}")
        ip(f"-n {side} link set lo up")
    ip("link add veth netns left type veth peer name veth netns right")
    for mine, side in enumerate(SIDES):
        ip(f"-n {side} address add {ENDS[4][mine]}/24 dev veth")
        ip(f"-n {side} address add {ENDS[6][mine]}/64 dev veth nodad")
        ip(f"-n {side} link set veth up")


def body(lab):
    without_host(lab)
    prepare_namespaces()
    for case in CASES:
        set_up(case)
    rekey()


if __name__ == "__main__":
    if os.geteuid() != 0:
        skip("needs root: iked gives up its user and changes its root")
    need_programs(iked="openiked", ikectl="openiked", ip="iproute2")
    enter_private_network()
    sys.exit(main(body))
