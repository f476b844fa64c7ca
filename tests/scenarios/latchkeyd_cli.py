#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""latchkeyd as a process: what it says to bad arguments, when it is ready, how it ends, what becomes of its path."""
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "interop"))
from peers import PATIENCE, expect, main, program, wait_until

# Arguments behind a good --wire, and what standard error has to name.
BAD_ARGUMENTS = (
    (["--addres", "10.0.0.1/24"], ["--addres"]),
    (["extra"], ["extra"]),
    (["--address"], ["--address", "ADDR/LEN"]),
    (["--address", "10.0.0.1"], ["--address 10.0.0.1", "ADDRESS/LENGTH"]),
    (["--address", "10.0.0.1/33"], ["--address 10.0.0.1/33"]),
    (["--address=fd00::1/129"], ["--address fd00::1/129"]),
    (["--mtu", "575"], ["--mtu 575", "576"]),
    (["--mtu", "9217"], ["--mtu 9217", "9216"]),
    (["--mtu", "15x"], ["--mtu 15x"]),
    (["--mtu", ""], ["--mtu"]),
    (["--mac", "01:00:00:00:00:01"], ["--mac 01:00:00:00:00:01", "unicast"]),
    (["--mac", "02:00:00:00:01"], ["--mac"]),
    (["--mac", "02:00:00:00:00:001"], ["--mac"]),
    (["--route", "10.1.0.0/16"], ["--route 10.1.0.0/16", "via"]),
    (["--route", "10.1.0.0/16", "via"], ["--route", "after `via`"]),
    (["--route", "10.1.0.0/16", "via", "host"], ["--route", "`host`"]),
    (["--ready-fd", "x"], ["--ready-fd x"]),
    (["--ready-fd", "-1"], ["--ready-fd -1"]),
    (["--sysctl", "net.inet.ipsec.dfbit"], ["--sysctl", "NAME=VALUE"]),
    (["--sysctl", "no.such=1"], ["--sysctl no.such=1"]),
    (["--sysctl", "net.inet.ipsec.dfbit=77"], ["--sysctl net.inet.ipsec.dfbit=77", "range", "(0 to 2)"]),
    (["--sysctl", "net.inet.ipsec.dfbit=0xz"], ["--sysctl net.inet.ipsec.dfbit=0xz", "whole number"]),
    (["--sysctl", "net.inet.ipsec.used=1"], ["--sysctl net.inet.ipsec.used=1", "read"]),
    (["--forward=yes"], ["--forward", "no value"]),
    (["--socket", ""], ["--socket"]),
    (["--setkey", ""], ["--setkey"]),
    (["--name", ""], ["--name"]),
    (["--wire", "token:ring"], ["--wire token:ring", "tap:NAME", "unix:DIR"]),
    (["--wire", "unix:"], ["--wire unix:"]),
    (["--wire", "unix:/tmp,loss=101"], ["--wire", "loss=101", "0 to 100"]),
    (["--wire", "unix:/tmp,noise=1"], ["--wire", "noise"]),
)


def daemon(*arguments, **more):
    environment = {name: value for name, value in os.environ.items() if name != "LATCHKEY"}
    return subprocess.run([program("latchkeyd"), *arguments], env=environment, text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE, check=False, **more)


def check_refusals(lab):
    path, wire = lab.path("refused.sock"), ["--wire", f"unix:{lab.path('wire')}"]
    for arguments, words in BAD_ARGUMENTS:
        done = daemon("--foreground", "--socket", path, *wire, *arguments)
        expect(done.returncode == 2 and done.stdout == "", f"{arguments}: {done}")
        lines = done.stderr.splitlines()
        expect(len(lines) == 1 and lines[0].startswith("latchkeyd: "), f"{arguments}: not one line: {done.stderr!r}")
        for word in words:
            expect(word in lines[0], f"{arguments}: `{word}` is not in {lines[0]!r}")
        expect(not os.path.exists(path), f"{arguments}: a socket is left behind")
    for arguments in (["--socket", path], ["--address", "10.0.0.1/24"], ["--mtu", "1500"]):
        done = daemon(*arguments)
        expect(done.returncode == 2 and "--wire" in done.stderr, f"{arguments}: {done}")
    print(f"{len(BAD_ARGUMENTS)} bad arguments named")


def check_cannot_start(lab):
    """What is well said but cannot be done: exit status 1, also from the background."""
    wire = ["--wire", f"unix:{lab.path('wire')}"]
    script = lab.path("bad.cf")
    with open(script, "w", encoding="ascii") as file:
        file.write("add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-cbc \"short\";\n")
    for where in (["--foreground"], []):
        for arguments, word in (
                (["--socket", lab.path("no/such/folder"), *wire], "no/such/folder"),
                (["--socket", lab.path("x" * 120), *wire], "x" * 120),
                (["--socket", lab.path("s"), "--wire", "unix:/proc/none"], "/proc/none"),
                (["--socket", lab.path("s"), "--wire", "tap:a-name-that-is-far-too-long"], "far-too-long"),
                (["--socket", lab.path("s"), *wire, "--setkey", lab.path("none.cf")], "none.cf"),
                (["--socket", lab.path("s"), *wire, "--setkey", script], "bad.cf"),
                (["--socket", lab.path("s"), *wire, "--pcap", lab.path("no/such.pcap")], "no/such.pcap"),
                (["--socket", lab.path("s"), *wire, "--route", "10.1.0.0/16", "via", "10.9.9.9"], "10.1.0.0/16")):
            done = daemon(*where, *arguments)
            expect(done.returncode == 1 and "ready" not in done.stdout,
                   f"{where + arguments}: exit status {done.returncode}, {done.stdout!r} {done.stderr!r}")
            expect(word in done.stderr, f"{where + arguments}: `{word}` is not in {done.stderr!r}")
            expect(not os.path.exists(lab.path("s")), f"{arguments}: a socket is left behind")


def check_help():
    for option, start in (("--help", "usage: latchkeyd "), ("-h", "usage: latchkeyd "), ("--version", "latchkeyd ")):
        done = daemon(option)
        expect(done.returncode == 0 and done.stdout.startswith(start) and not done.stderr, f"{option}: {done}")


# ---- a life ----------------------------------------------------------------------------------------------------------

def check_path(lab):
    """One host per path; what a killed host left is replaced; what is no socket is not touched."""
    first = lab.host("path", "--wire", f"unix:{lab.path('wire')}", "--address", "10.0.0.1/24")
    expect(os.stat(first.socket).st_mode & 0o077 == 0, "others may open the socket")
    done = daemon("--foreground", "--socket", first.socket, "--wire", f"unix:{lab.path('wire')}")
    expect(done.returncode == 1 and first.socket in done.stderr, f"a second host on the same path: {done}")
    expect(first.run("setkey", "-D").returncode == 0, "the second host took the path from the first")
    first.process.kill()
    first.process.wait()
    expect(os.path.exists(first.socket), "the killed host could not clean up, so this test checks nothing")
    second = lab.host("path", "--wire", f"unix:{lab.path('wire')}", "--address", "10.0.0.1/24")
    second.stop()
    with open(second.socket, "w", encoding="ascii") as file:
        file.write("mine")
    done = daemon("--foreground", "--socket", second.socket, "--wire", f"unix:{lab.path('wire')}")
    with open(second.socket, encoding="ascii") as file:
        expect(done.returncode == 1 and file.read() == "mine", f"a file in the way was not left alone: {done}")


def check_signals(lab):
    for number in (signal.SIGTERM, signal.SIGINT):
        host = lab.host(f"signal{number}", "--wire", f"unix:{lab.path('wire')}", "--address", "10.0.0.1/24")
        client = host.start("setkey", "-x", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        expect(client.stdout.readline(), "the monitor does not show its own registration")
        host.process.send_signal(number)
        status = host.process.wait(PATIENCE)
        expect(status == 0, f"signal {number}: exit status {status}\n{host.messages()}")
        expect(not os.path.exists(host.socket), f"signal {number}: the socket is left behind")
        output, _ = client.communicate(timeout=PATIENCE)
        expect(client.returncode == 1 and "the host closed the key socket" in output, f"setkey -x: {output!r}")


def check_background(lab):
    """The command returns when the host serves; the host has left the terminal and the descriptors of its parent."""
    path, script = lab.path("background.sock"), lab.path("good.cf")
    with open(script, "w", encoding="ascii") as file:
        file.write('add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-cbc "1234567890123456";\n')
    reader, writer = os.pipe()
    done = daemon("--socket", path, "--wire", f"unix:{lab.path('wire')}", "--address", "10.0.0.1/24",
                  "--setkey", script, "--ready-fd", str(writer), pass_fds=[writer])
    os.close(writer)
    expect((done.returncode, done.stdout, done.stderr) == (0, "", ""), f"in the background: {done}")
    pids = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and path.encode() in command_line(pid)]
    expect(len(pids) == 1, f"processes with this path: {pids}")
    try:
        lines = [os.read(reader, 100), os.read(reader, 100)]
        expect(lines == [b"ready\n", b""], f"--ready-fd said {lines}")
        expect(os.getsid(pids[0]) == pids[0] != os.getsid(0), "the daemon is in the session of its parent")
        standard = {os.readlink(f"/proc/{pids[0]}/fd/{fd}") for fd in range(3)}
        expect(standard == {"/dev/null"}, f"the daemon's standard streams: {standard}")
        dump = subprocess.run([program("setkey"), "--socket", path, "-D"], text=True, capture_output=True, check=False)
        expect("0x00001000" in dump.stdout, f"--setkey: not loaded when the command returned: {dump}")
    finally:
        os.kill(pids[0], signal.SIGTERM)
        os.close(reader)
    wait_until(lambda: not os.path.exists(path), "the host in the background removes its path")
    wait_until(lambda: not command_line(pids[0]), "the host in the background ends")


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def body(lab):
    check_help()
    check_refusals(lab)
    check_cannot_start(lab)
    check_path(lab)
    check_signals(lab)
    check_background(lab)


if __name__ == "__main__":
    sys.exit(main(body))
