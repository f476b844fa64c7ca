#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""setkey against running hosts, beyond its exit statuses (setkey_exit_status.sh): dumps word for word, commands from a
pipe, several hosts, thousands of associations; and an unmodified program with a PF_KEY socket."""
import os
import re
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "interop"))
from peers import PATIENCE, expect, main, program

DATA = os.path.join(os.path.dirname(HERE), "data", "setkey")
MANY = 5000


# ---- dumps -----------------------------------------------------------------------------------------------------------

def entries(dump):
    """The entries of a dump, without what differs from run to run: times, use, numbers given by the host."""
    masks = ((r"(created:).*", r"\1"), (r"diff: \S+", "diff:"), (r"last: .*?(\thard|$)", r"last:\1"),
             (r"current: \d+\(bytes\)", "current:"), (r"allocated: \d+", "allocated:"),
             (r"sadb_seq=\d+ pid=\S+", ""), (r"spid=\S+ seq=\d+ pid=\d+", ""))
    for pattern, replacement in masks:
        dump = re.sub(pattern, replacement, dump, flags=re.MULTILINE)
    return re.split(r"\n(?=\S)", dump.strip())


def check_dumps(host):
    with open(os.path.join(DATA, "dump-format.txt"), encoding="ascii") as file:
        recorded = entries(file.read())
    done = host.run("setkey", "-f", os.path.join(DATA, "dump-format.cf"))
    expect(done.returncode == 1, f"-f with what this host does not offer: exit status {done.returncode}\n{done.stdout}")
    sas, policies = host.run("setkey", "-D").stdout, host.run("setkey", "-DP").stdout
    got = entries(sas) + entries(policies)
    foreign = [entry for entry in got if entry not in recorded]
    expect(not foreign, "printed otherwise than by the recorded setkey:\n" + "\n".join(foreign))
    # The host lacks the transforms of the others; of the policies none is missing.
    expected = [entry for entry in recorded if "\tesp mode=" in entry or "lifetime: 0(s) validtime" in entry]
    expect(sorted(got) == sorted(expected), f"{len(got)} entries dumped instead of {len(expected)}:\n{sas}{policies}")
    expect("spid=" in policies and "pid=" in sas, "the dump has no numbers")

    expect(host.run("setkey", "-F").stdout == "", "-F said something")
    expect(host.run("setkey", "-D").stdout == "No SAD entries.\n", "associations are left behind -F")
    expect("esp/tunnel/20.0.0.1-20.0.0.2/require" in host.run("setkey", "-DP").stdout, "-F flushed policies")
    expect(host.run("setkey", "-FP").stdout == "", "-FP said something")
    expect(host.run("setkey", "-DP").stdout == "No SPD entries.\n", "policies are left behind -FP")


# ---- commands from a pipe --------------------------------------------------------------------------------------------

def check_pipe(host):
    """-c answers a command while the pipe is still open."""
    setkey = host.start("setkey", "-c", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                        text=True)
    lines = []
    threading.Thread(target=lambda: lines.extend(iter(setkey.stdout.readline, "")), daemon=True).start()

    def answers(command, pattern):
        setkey.stdin.write(command)
        setkey.stdin.flush()
        deadline = time.monotonic() + PATIENCE
        while not any(re.search(pattern, line) for line in lines):
            expect(time.monotonic() < deadline and setkey.poll() is None, f"no answer to {command!r}: {lines}")
            time.sleep(0.01)
        lines.clear()
    answers("dump;", r"^No SAD entries\.$")
    answers('add 10.0.0.1 10.0.0.2 esp 0x1000\n -E aes-cbc "1234567890123456"; dump;', r"spi=4096\(0x00001000\)")
    answers("delete 10.0.0.1 10.0.0.2 esp 0x1001;", r"^stdin:\d+:\d+: delete 10.0.0.1 10.0.0.2 esp 0x1001: No entry\.$")
    answers("nonsense;", r"syntax error")
    answers("delete 10.0.0.1 10.0.0.2 esp 0x1000; dump;", r"^No SAD entries\.$")
    setkey.stdin.close()
    expect(setkey.wait(PATIENCE) == 0, "setkey -c ended with a failure")


# ---- hosts -----------------------------------------------------------------------------------------------------------

def check_two_hosts(one, other):
    """$LATCHKEY names the host; --socket does, too, and wins."""
    one.setkey('add 10.0.0.1 10.0.0.2 esp 0x1111 -E aes-cbc "1234567890123456";')
    other.setkey('add 10.0.0.1 10.0.0.2 esp 0x2222 -E aes-cbc "1234567890123456";')
    for host, own, foreign in ((one, "0x00001111", "0x00002222"), (other, "0x00002222", "0x00001111")):
        dump = host.run("setkey", "-D").stdout
        expect(own in dump and foreign not in dump, f"{host.name} shows the associations of another host:\n{dump}")
    dump = one.run("setkey", "--socket", other.socket, "-D").stdout
    expect("0x00002222" in dump, f"--socket is not the host that was asked:\n{dump}")
    for host in (one, other):
        host.setkey("flush;")
    for path, reason in ((one.socket + ".not", "No such file or directory"), (one.log, "Connection refused")):
        done = subprocess.run([program("setkey"), "-D"], env={**os.environ, "LATCHKEY": path}, text=True,
                              capture_output=True, check=False)
        expect((done.returncode, done.stdout, done.stderr) == (1, "", f"setkey: {path}: {reason}\n"),
               f"wrong path: exit status {done.returncode}, {done.stdout!r}, {done.stderr!r}")


def check_many(lab, host):
    path = lab.path("many.cf")
    with open(path, "w", encoding="ascii") as file:
        for number in range(MANY):
            file.write(f"add 10.0.0.1 10.{number >> 8}.{number & 255}.2 esp {0x10000 + number} "
                       f"-E aes-gcm-16 0x{number:040x};\n")
    start = time.monotonic()
    done = host.run("setkey", "-f", path)
    loaded = time.monotonic() - start
    expect((done.returncode, done.stdout) == (0, ""), f"adds: exit status {done.returncode}\n{done.stdout[:999]}")
    dump = host.run("setkey", "-D").stdout
    got = set(re.findall(r" spi=(\d+)", dump))
    expect(got == {str(0x10000 + number) for number in range(MANY)}, f"{len(got)} of {MANY} associations in the dump")
    expect(host.counters()["sas"] == MANY, "the host counts another number of associations")
    done = host.run("setkey", "-f", path)
    refused = done.stdout.count("File exists")
    expect(done.returncode == 1 and refused == MANY, f"the same again: {refused} of {MANY} refused")
    host.setkey("flush;")
    expect(host.run("setkey", "-D").stdout == "No SAD entries.\n", "associations are left behind `flush`")
    print(f"{MANY} associations added in {loaded:.2f} s")


# ---- unmodified programs ---------------------------------------------------------------------------------------------

RAW_CLIENT = r"""
import errno, os, socket, struct, select
PF_KEY, PF_KEY_V2, REGISTER, DUMP, ESP = 15, 2, 7, 10, 3
def message(kind, satype, seq, length=2, version=2):
    return struct.pack("=BBBBHHII", version, kind, 0, satype, length, 0, seq, os.getpid())
key = socket.socket(PF_KEY, socket.SOCK_RAW, PF_KEY_V2)
for seq in range(1, 200):                      # the reply is there when send() returns
    key.send(message(REGISTER, ESP, seq))
    head = key.recv(16, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    kind, error, satype, units, back = struct.unpack("=xBBBHxxIxxxx", head)
    assert (kind, satype, back) == (REGISTER, ESP, seq) and error in (0, errno.EEXIST), head
    reply = key.recv(65536, socket.MSG_DONTWAIT)
    assert len(reply) == units * 8, (len(reply), units)
    if error == 0:
        first = reply
assert first[18:20] != b"\0\0" and len(first) > 16 + 8 + 8, first       # algorithms follow
assert not select.select([key], [], [], 0)[0], "more than one reply"
for bad in (message(REGISTER, ESP, 1, version=1), message(0, 0, 1), message(200, 0, 1),
            message(REGISTER, ESP, 1, length=3), b"short"):
    try:
        key.send(bad)
        raise SystemExit(f"taken: {bad}")
    except OSError as error:
        assert error.errno in (errno.EINVAL, errno.EMSGSIZE), error
assert not select.select([key], [], [], 0)[0], "a malformed message was answered"
second = os.dup(key.fileno())                  # the socket is a descriptor like any other
os.write(second, message(DUMP, 0, 7))
reply = os.read(second, 65536)
assert reply[1] == DUMP, reply
key.close()
if os.fork() == 0:
    os.write(second, message(REGISTER, ESP, 9))
    os._exit(0 if os.read(second, 65536)[1] == REGISTER else 1)
assert os.wait()[1] == 0
for kind, protocol, wanted in ((socket.SOCK_STREAM, PF_KEY_V2, errno.ESOCKTNOSUPPORT),
                               (socket.SOCK_RAW, 3, errno.EPROTONOSUPPORT)):
    try:
        socket.socket(PF_KEY, kind, protocol)
        raise SystemExit("such a socket was made")
    except OSError as error:
        assert error.errno == wanted, error
print("all well")
"""


def check_unmodified(host):
    done = host.run("latchkey", "run", "--", sys.executable, "-c", RAW_CLIENT)
    expect((done.returncode, done.stdout) == (0, "all well\n"),
           f"python's PF_KEY socket: exit status {done.returncode}\n{done.stdout}")
    done = host.run("latchkey", "run", "--", "/bin/sh", "-c", "exit 7")
    expect(done.returncode == 7, f"`latchkey run` gave exit status {done.returncode} instead of the program's 7")


def body(lab):
    wire = lab.path("wire")
    one = lab.host("one", "--wire", f"unix:{wire}", "--address", "10.0.0.1/24")
    other = lab.host("other", "--wire", f"unix:{wire}", "--address", "10.0.0.2/24")
    check_dumps(one)
    check_pipe(one)
    check_two_hosts(one, other)
    check_many(lab, one)
    check_unmodified(one)


if __name__ == "__main__":
    sys.exit(main(body))
