#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""`latchkey sysctl`, `latchkey algs` and sysctlbyname() on a running host."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "interop"))
from peers import BUILD, expect, main, material, program

# Names and defaults of KAME (ipsec.c, key.c); net.inet6.ipsec6 has no ah_cleartos, ah_offsetmask, dfbit.
KAME = {
    **{f"{tree}.{name}": value for tree in ("net.inet.ipsec", "net.inet6.ipsec6") for name, value in (
        ("def_policy", 1), ("esp_trans_deflev", 1), ("esp_net_deflev", 1), ("ah_trans_deflev", 1), ("ah_net_deflev", 1),
        ("ecn", 0), ("debug", 0), ("esp_randpad", -1))},
    "net.inet.ipsec.ah_cleartos": 1, "net.inet.ipsec.ah_offsetmask": 0, "net.inet.ipsec.dfbit": 0,
    "net.key.debug": 0, "net.key.spi_trycnt": 1000, "net.key.spi_minval": 0x100, "net.key.spi_maxval": 0x0fffffff,
    "net.key.larval_lifetime": 30, "net.key.blockacq_count": 10, "net.key.blockacq_lifetime": 20,
    "net.key.esp_keymin": 256, "net.key.esp_auth": 0, "net.key.ah_keymin": 128, "net.key.preferred_oldsa": 1,
}
# The other BSDs' names, and the name of the same tunable.
ALIASES = {"net.key.prefered_oldsa": "net.key.preferred_oldsa", "net.inet.ah.ah_cleartos": "net.inet.ipsec.ah_cleartos"}


def sysctl(host, *words, status=0, **more):
    done = host.run("latchkey", "sysctl", *words, **more)
    expect(done.returncode == status, f"sysctl {words}: exit status {done.returncode}, expected {status}\n{done.stdout}")
    return done.stdout


def values(host, *words):
    return {name: int(value) for name, value in (line.split("=") for line in sysctl(host, "-e", *words).splitlines())}


# Asks for any SPI on a PF_KEY socket; prints the answer's errno and SPI.
GETSPI = """
import os, socket, struct
def address(kind, last):
    return struct.pack("=HHBBH", 3, kind, 0, 32, 0) + struct.pack("=HH4s8x", socket.AF_INET, 0, bytes([10, 0, 0, last]))
body = address(5, 2) + address(6, 1)
key = socket.socket(15, socket.SOCK_RAW, 2)
key.send(struct.pack("=BBBBHHII", 2, 1, 0, 3, (16 + len(body)) // 8, 0, 1, os.getpid()) + body)
reply = key.recv(65536, socket.MSG_DONTWAIT)
at = 16
while struct.unpack_from("=HH", reply, at)[1] != 1:
    at += 8 * struct.unpack_from("=H", reply, at)[0]
print(reply[2], hex(int.from_bytes(reply[at + 4:at + 8], "big")))
"""


# ---- tunables --------------------------------------------------------------------------------------------------------

def check_defaults(host):
    found = values(host, "-a")
    for name, value in KAME.items():
        expect(found.get(name) == value, f"{name} is {found.get(name)}, not {value} as in KAME")
    for prefix in ("net.key", "net.key.spdcache", "net.inet", "net.inet6."):
        below = {name: value for name, value in found.items() if name.startswith(prefix.rstrip(".") + ".")}
        expect(below and values(host, prefix) == below, f"{prefix}: {values(host, prefix)}")
    for alias, name in ALIASES.items():
        expect(values(host, alias) == {alias: found[name]}, f"{alias} is not {name}")
    print(f"{len(found)} tunables, {len(KAME)} with KAME's defaults")


def rows(host):
    """NAME: (MIN, MAX, DEFAULT), or None for one that is read only, from -d."""
    found = {}
    for line in sysctl(host, "-da").splitlines():
        name, text = line.split(": ", 1)
        limits = text[text.rindex(" (") + 2:-1]
        if limits.startswith("always "):
            found[name] = (int(limits.split()[1]),) * 3
        elif limits == "read only":
            found[name] = None
        else:
            low, _, high, _, standard = limits.replace(",", "").split()
            found[name] = (int(low), int(high), int(standard))
    return found


def check_every_row(host):
    """Each limit is accepted and read back, what lies beyond is refused with the range; nothing else changes."""
    before = values(host, "-a")
    described = rows(host)
    expect(set(described) == set(before), f"-a and -d list different names: {set(described) ^ set(before)}")
    for name, limits in described.items():
        if limits is None:
            text = sysctl(host, f"{name}=1", status=1)
            expect(f"{name}=1: " in text and "read" in text, f"{name} is read only: {text!r}")
            continue
        low, high, standard = limits
        expect(before[name] == standard, f"{name} is {before[name]}, its default {standard}")
        for value in (high, low):
            sysctl(host, "-q", f"{name}={value}")
            expect(values(host, name) == {name: value}, f"{name}={value} reads {values(host, name)}")
        for value in (high + 1, low - 1):
            text = sysctl(host, f"{name}={value}", status=1)
            expect(f"({low} to {high})" in text, f"{name}={value}: {text!r}")
        expect(values(host, name) == {name: low}, f"{name}: a refused value was stored")
        expect(sysctl(host, f"{name}={standard:#x}" if standard >= 0 else f"{name}={standard}")
               == f"{name}: {low} -> {standard}\n", f"{name}: the default again")
    expect(values(host, "-a") == before, "not everything is as it was")


def check_file(host, lab):
    """What -e prints, -f reads."""
    before = values(host, "-a")
    saved = "".join(line for line in sysctl(host, "-ea").splitlines(True)
                    if rows(host)[line.split("=")[0]] is not None)
    path = lab.path("sysctl.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write("# saved\n\n" + saved)
    sysctl(host, "-q", "net.key.blockacq_count=77", "net.inet.ipsec.dfbit=2", "net.key.prefered_oldsa=0")
    expect(values(host, "-a") != before, "nothing was changed, so that this test checks nothing")
    sysctl(host, "-q", "-f", path)
    expect(values(host, "-a") == before, "-f did not bring everything back")
    sysctl(host, "-f", "-", input="net.key.debug = 0x11  # from standard input\n")
    expect(sysctl(host, "-nx", "net.key.debug") == "0x11\n", "-f -")
    sysctl(host, "-q", "net.key.debug=0")


def check_refusals(host):
    for words, expected in ((["net.key.debg=1"], "did you mean `net.key.debug`"),
                            (["dfbit"], "did you mean `net.inet.ipsec.dfbit`"),
                            (["net.inet6.ipsec6.dfbit"], "did you mean `net.inet.ipsec.dfbit`"),   # IPv6 has no DF
                            (["net.inet.ipsec.dfbit=on"], "whole number"), (["net.inet.ipsec.dfbit="], "whole number"),
                            (["-w", "net.key"], "NAME=VALUE")):
        text = sysctl(host, *words, status=1)
        expect(len(text.splitlines()) == 1 and expected in text, f"{words}: {text!r}")


def check_acting(host):
    """Settings reach the engine: the range of GETSPI, and `used` follows the first policy."""
    expect(values(host, "net.inet.ipsec.used", "net.inet6.ipsec6.used")
           == {"net.inet.ipsec.used": 0, "net.inet6.ipsec6.used": 0}, "used, before there is a policy")
    sysctl(host, "-q", "net.key.spi_minval=0x5000", "net.key.spi_maxval=0x5000")
    done = host.run("latchkey", "run", sys.executable, "-S", "-c", GETSPI)
    expect((done.returncode, done.stdout) == (0, "0 0x5000\n"), f"GETSPI with spi_minval and spi_maxval: {done.stdout}")
    host.setkey("spdadd 10.0.0.1 10.0.0.2 any -P out none;")
    expect(values(host, "net.inet.ipsec.used") == {"net.inet.ipsec.used": 1}, "used, with a policy")
    expect(values(host, "net.inet.ipsec.crypto_support")["net.inet.ipsec.crypto_support"] > 0, "crypto_support")


def check_sysctlbyname(host):
    client = os.path.join(BUILD, "bin", "sysctl_client")

    def ask(*words):
        done = subprocess.run([client, *words], env=host.environment, text=True, capture_output=True, check=False)
        return done.returncode, done.stdout
    expect(ask("net.inet.ipsec.dfbit") == (0, "0\n"), "sysctlbyname reads")
    expect(ask("net.inet.ipsec.dfbit", "2") == (0, "0\n") and ask("net.inet.ipsec.dfbit") == (0, "2\n"), "and sets")
    expect(ask("net.inet.ipsec.dfbit", "3") == (1, "Invalid argument\n"), "a bad value")
    expect(ask("net.inet.ipsec.nothing") == (1, "No such file or directory\n"), "a bad name")
    expect(ask("net.inet.ipsec.used", "0") == (1, "Operation not permitted\n"), "a read-only one")
    expect(ask("net.inet.ipsec.dfbit", "0") == (0, "2\n"), "and back")


def check_privilege(host):
    """Everybody may look; only root and the host's owner may set."""
    if os.geteuid() != 0:
        print("not checked without root: a stranger may look but not set")
        return
    os.chmod(os.path.dirname(host.socket), 0o755)
    os.chmod(host.socket, 0o666)

    def as_nobody(*words):
        done = subprocess.run([program("latchkey"), "sysctl", *words], env=host.environment, user=65534, group=65534,
                              extra_groups=[], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        return done.returncode, done.stdout
    if as_nobody("--help")[0] != 0:
        print("not checked: the build folder is closed to other users")
        return
    expect(as_nobody("net.key.debug") == (0, "net.key.debug: 0\n"), f"a stranger looks: {as_nobody('net.key.debug')}")
    status, text = as_nobody("net.key.debug=1")
    expect(status == 1 and "Operation not permitted" in text, f"a stranger sets: {status} {text!r}")
    expect(values(host, "net.key.debug") == {"net.key.debug": 0}, "a stranger has set it")


# ---- algorithms ------------------------------------------------------------------------------------------------------

def acceptable(row):
    """A script that adds one association with this algorithm."""
    key = f"0x{material(row['name'], (row['key_bits_min'] + 7) // 8).hex()}" if row["key_bits_min"] else ""
    if row["kind"] == "compression":
        return f"add 10.0.0.1 10.0.0.3 ipcomp 0x5000 -C {row['name']};"
    if row["kind"] == "auth":
        return f"add 10.0.0.1 10.0.0.3 esp 0x6000 -E aes-cbc 0x{'a5' * 16} -A {row['name']} {key};"
    auth = f"-A hmac-sha1 0x{'5a' * 20}" if row["kind"] == "cipher" else ""
    return f"add 10.0.0.1 10.0.0.3 esp 0x6000 -E {row['name']} {key} {auth};"


def check_algorithms(host):
    """What `algs` says is offered can be had, what it says is not is refused."""
    listed = json.loads(host.run("latchkey", "algs", "--json").stdout)
    offered = [row["name"] for row in listed if row["available"]]
    expect({"aes-cbc", "aes-gcm-16", "chacha20-poly1305", "hmac-sha256", "null"} <= set(offered), f"offered: {offered}")
    expect(not all(row["available"] for row in listed), "everything is offered, so that this test checks half")
    for row in listed:
        host.run("setkey", "-F")
        done = host.run("setkey", "-f", "-", input=acceptable(row))
        expect((done.returncode == 0) == row["available"],
               f"{row['kind']} {row['name']}: available {row['available']}, but setkey says {done.stdout!r}")
    host.run("setkey", "-F")
    table = host.run("latchkey", "algs").stdout.splitlines()
    expect(len(table) == len(listed) + 1, "the table and the JSON differ in length")
    for line, row in zip(table[1:], listed):
        expect(line.split()[:2] == [row["kind"], row["name"]] and f" {'yes' if row['available'] else 'no'} " in line + " ",
               f"{line!r} against {row}")
    print(f"{len(offered)} of {len(listed)} algorithms offered")


def body(lab):
    host = lab.host("tuned", "--wire", f"unix:{lab.path('wire')}", "--address", "10.0.0.1/24")
    check_defaults(host)
    check_every_row(host)
    check_file(host, lab)
    check_refusals(host)
    check_sysctlbyname(host)
    check_privilege(host)
    check_algorithms(host)
    check_acting(host)
    preset = lab.host("preset", "--wire", f"unix:{lab.path('wire')}", "--address", "10.0.0.2/24", "--sysctl",
                      "net.inet.ipsec.dfbit=0x2", "--sysctl", "net.key.prefered_oldsa=0")
    expect(values(preset, "net.inet.ipsec.dfbit", "net.key.preferred_oldsa")
           == {"net.inet.ipsec.dfbit": 2, "net.key.preferred_oldsa": 0}, "--sysctl of latchkeyd")


if __name__ == "__main__":
    sys.exit(main(body))
