#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""setkey against running hosts, beyond its exit statuses (setkey_exit_status.sh): dumps word for word and as JSON,
commands from a pipe, files that apply as a whole, the monitor, several hosts, thousands of associations; and an
unmodified program with a PF_KEY socket."""
import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "interop"))
from peers import PATIENCE, expect, main, program, wait_until

DATA = os.path.join(os.path.dirname(HERE), "data", "setkey")
MANY = 5000
AF_INET = 2


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
    expect(done.returncode == 0, f"the recorded file: exit status {done.returncode}\n{done.stdout}")
    sas, policies = host.run("setkey", "-D").stdout, host.run("setkey", "-DP").stdout
    got = entries(sas) + entries(policies)
    # The recorded host kept no order among the directions.
    expect(sorted(got) == sorted(recorded), f"printed otherwise than by the recorded setkey:\n{sas}{policies}")
    expect(entries(done.stdout) == got, f"`dump; spddump;` and -D, -DP differ:\n{done.stdout}")
    expect("spid=" in policies and "pid=" in sas, "the dump has no numbers")

    expect(host.run("setkey", "-F").stdout == "", "-F said something")
    expect(host.run("setkey", "-D").stdout == "No SAD entries.\n", "associations are left behind -F")
    expect("esp/tunnel/20.0.0.1-20.0.0.2/require" in host.run("setkey", "-DP").stdout, "-F flushed policies")
    expect(host.run("setkey", "-FP").stdout == "", "-FP said something")
    expect(host.run("setkey", "-DP").stdout == "No SPD entries.\n", "policies are left behind -FP")


# ---- dumps for programs ----------------------------------------------------------------------------------------------

def parsed(host, *words):
    done = host.run("setkey", *words, stderr=subprocess.PIPE)
    expect((done.returncode, done.stderr) == (0, ""), f"setkey {words}: exit status {done.returncode}, {done.stderr}")
    return json.loads(done.stdout), done.stdout


def check_json(host):
    expect(parsed(host, "-D", "--json")[0] == [] and parsed(host, "-DP", "--json")[0] == [], "empty tables")
    host.run("setkey", "-f", os.path.join(DATA, "dump-format.cf"))
    sas, text = parsed(host, "-D", "--json")
    expect([sa["spi"] for sa in sas] == [10000, 1001, 300, 10003], text)
    esp, ah, ipcomp, natt = sas
    expect((esp["source"], esp["destination"], esp["mode"], esp["reqid"], esp["state"]) ==
           ({"address": "10.0.0.1", "port": 0}, {"address": "10.0.0.2", "port": 0}, "tunnel", 7, "mature"), text)
    expect(esp["lifetimes"]["hard"]["addtime"] == 3600 and esp["lifetimes"]["soft"]["addtime"] == 3000 and
           abs(esp["lifetimes"]["current"]["addtime"] - time.time()) < 600, text)
    expect(esp["encryption"]["algorithm"] == "aes-cbc" and esp["encryption"]["key_bits"] == 128, text)
    expect(esp["flags"] == ["cyclic-seq"] and esp["replay"] == {"window": 32, "sequence": 0}, text)
    expect(ah["protocol"] == "ah" and ah["encryption"] is None and ah["authentication"]["key_bits"] == 256, text)
    expect(ipcomp["compression"] == {"algorithm": "deflate", "id": 2} and ipcomp["authentication"] is None, text)
    expect(natt["nat_traversal"]["source_port"] == 4500 and natt["source"]["port"] == 4500, text)
    members = [list(sa) for sa in sas]
    expect(all(names == members[0] for names in members), f"the members differ: {members}")
    expect("31323334" not in text and '"key"' not in text, "keys are shown without --keys")
    shown, text = parsed(host, "-D", "--json", "--keys")
    expect(bytes.fromhex(shown[0]["encryption"]["key"]) == b"1234567890123456", text)

    policies, text = parsed(host, "-DP", "--json")
    out = next(policy for policy in policies if policy["direction"] == "out" and policy["action"] == "ipsec")
    expect((out["protocol"]["name"], out["source"], out["destination"]["port"]) ==
           ("tcp", {"address": "10.0.1.0", "prefix_length": 24, "port": None}, 80), text)
    expect([(rule["protocol"], rule["mode"], rule["level"]) for rule in out["rules"]] == [("esp", "tunnel", "require")] and
           out["rules"][0]["source"]["address"] == "20.0.0.1", text)
    expect(any(policy["icmp"] == {"type": 135, "code": 0} for policy in policies), text)
    expect(len({tuple(policy) for policy in policies}) == 1, f"the members differ: {text}")

    lines = host.run("setkey", "-D", "--oneline").stdout.splitlines()
    expect([re.search(r" spi=(\d+)", line).group(1) for line in lines] == ["10000", "1001", "300", "10003"], lines)
    expect(" A: hmac-sha256 " + b"12345678901234567890123456789012".hex() + " seq=" in lines[1], lines[1])
    lines = host.run("setkey", "-DP", "--oneline").stdout.splitlines()
    expect(len(lines) == len(policies) and all(" spid=" in line for line in lines), lines)
    host.setkey("flush; spdflush;")
    expect(host.run("setkey", "-DPt").stdout == "No SPD entries.\n", "-t found policies of interfaces")


def extension(kind, body):
    body += bytes(-(len(body) + 4) % 8)
    return struct.pack("=HH", (len(body) + 4) // 8, kind) + body


def message(kind, satype, *extensions):
    body = b"".join(extensions)
    return struct.pack("=BBBBHHII", 2, kind, 0, satype, 2 + len(body) // 8, 0, 1, 7) + body


def check_saved(lab):
    """Records in files; also such as nobody sent: whatever is in them, the JSON is valid."""
    sockaddr = struct.pack("=H", AF_INET) + bytes([0, 0, 10, 0, 0, 1]) + bytes(8)
    acquire = message(6, 3, extension(5, struct.pack("=BBH", 17, 32, 0) + sockaddr),
                      extension(10, struct.pack("=HHQ", 2, 0, 2**64 - 1) + 'a"\\\n\u20ac'.encode() + b"\xff\xc3\0"),
                      extension(8, struct.pack("=HH", 64, 0) + b"\xde\xad\xbe\xef\xde\xad\xbe\xef"))
    path, other = lab.path("saved.bin"), lab.path("other.bin")
    with open(path, "wb") as file:
        file.write(acquire + message(9, 0))
    with open(other, "wb") as file:
        file.write(b"flush;")

    def setkey(*words):
        return subprocess.run([program("setkey"), *words], capture_output=True, check=False)
    done = setkey("--json", path)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    expect(done.returncode == 0 and [line["message"] for line in lines] == ["ACQUIRE", "FLUSH"], done)
    expect(lines[0]["identity_src"] == {"type": "fqdn", "id": 2**64 - 1, "text": 'a"\\\n\u20ac\ufffd\ufffd',
                                        "hex": 'a"\\\n\u20ac'.encode().hex() + "ffc3"}, lines)
    expect(lines[0]["address_src"]["address"] == "10.0.0.1" and b"deadbeef" not in done.stdout, done.stdout)
    expect(b"deadbeef" in setkey("--json", "--keys", path).stdout, "--keys shows no key")
    done = setkey("--oneline", other, path)
    expect((done.returncode, done.stdout) == (1, b"ACQUIRE esp seq=1 pid=7\nFLUSH seq=1 pid=7\n") and
           b"other.bin: no PF_KEY messages are saved here; commands are read with -f" in done.stderr, done)
    expect(b"00000000: 02 06 00 03 " in setkey("-h", path).stdout, "-h")
    done = setkey(path, lab.path("absent"))
    expect(done.returncode == 1 and b"type=6 " in done.stdout and b"absent: No such file" in done.stderr, done)

    seed = random.randrange(2**32)
    chance = random.Random(seed)
    for _ in range(40):
        broken = bytearray(acquire * 20)
        for _ in range(chance.randrange(1, 60)):
            broken[chance.randrange(1, len(broken))] = chance.randrange(256)
        with open(path, "wb") as file:
            file.write(broken)
        done = setkey("--json", "--keys", path)
        expect(done.returncode == 0, f"seed {seed}: {done}")
        for line in done.stdout.decode("utf-8").splitlines():
            json.loads(line)
        for words in ((), ("-h",), ("--oneline",)):
            expect(setkey(*words, path).returncode == 0, f"seed {seed}: {words}")


# ---- whole files -----------------------------------------------------------------------------------------------------

def check_atomic(lab, host):
    host.setkey('add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-cbc "1234567890123456";'
                "spdadd 10.0.0.1 10.0.0.2 any -P out none;")

    def state():
        return entries(host.run("setkey", "-D").stdout), entries(host.run("setkey", "-DP").stdout)
    before, path = state(), lab.path("whole.cf")
    with open(path, "w", encoding="ascii") as file:
        file.write("flush; spdflush;\n")
        for number in range(MANY):
            file.write(f"add 10.0.0.1 10.{number >> 8}.{number & 255}.2 esp {0x10000 + number} "
                       f"-E aes-gcm-16 0x{number:040x};\n")
        file.write("spdadd 10.9.0.0/24 10.8.0.0/24 any -P in none;\n")
        file.write("add 10.0.0.1 10.0.0.2 esp 0x10000 -E aes-gcm-16 0x0000000000000000000000000000000000000001;\n")
    done = host.run("setkey", "--atomic", "-f", path)
    expect(done.returncode == 1 and
           re.fullmatch(rf"setkey: {path}:{MANY + 3}:1: add 10.0.0.1 10.0.0.2 esp 0x10000: File exists( \(.*\))?\n"
                        r"setkey: nothing is applied\n", done.stdout), done.stdout)
    expect(state() == before, f"a file that failed left something behind: {state()}")
    with open(path, encoding="ascii") as file:
        lines = file.read().splitlines()
    with open(path, "w", encoding="ascii") as file:
        file.write("\n".join(lines[:-1]))
    start = time.monotonic()
    done = host.run("setkey", "--atomic", path)
    expect((done.returncode, done.stdout) == (0, ""), f"exit status {done.returncode}\n{done.stdout}")
    print(f"{MANY} associations added as one in {time.monotonic() - start:.2f} s")
    expect(host.run("setkey", "-D").stdout.count("state=mature") == MANY, "associations are missing")
    expect(host.run("setkey", "-DP").stdout.count("spid=") == 2, "the policies of the file are not alone")
    done = host.run("setkey", "--atomic", "-f", "-", input="flush;\nget 10.0.0.1 10.0.0.2 esp 1;\n")
    expect(done.returncode == 1 and "stdin:2:1: 'get' shows something" in done.stdout, done.stdout)
    expect(host.run("setkey", "-D").stdout.count("state=mature") == MANY, "a file that cannot be atomic was sent")
    # The companion of an `in` policy that -k made never was there.
    host.run("setkey", "-k", "-f", "-", input="spdflush; spdadd 10.0.0.1 10.0.0.2 any -P in none;")
    done = host.run("setkey", "--atomic", "-f", "-", input="flush; spddelete 10.0.0.1 10.0.0.2 any -P in;")
    expect((done.returncode, done.stdout) == (0, ""), f"exit status {done.returncode}\n{done.stdout}")
    expect(host.run("setkey", "-D").stdout == "No SAD entries.\n", "`flush` as a part of a whole")


def check_check(host):
    """No host is needed, nothing is applied, and every error is told."""
    nowhere = {**os.environ, "LATCHKEY": "/nonexistent"}
    good, bad = "flush;\n", "bogus;\nflush;\nadd 10.0.0.1 10.0.0.2 esp oops;\nspdadd 10.0.0.1 10.0.0.2 any -P sideways none;\n"
    for option in ("--check", "-n"):
        for words in (("-f", "-"), ("-c",)):
            done = subprocess.run([program("setkey"), option, *words], input=good, env=nowhere, text=True,
                                  capture_output=True, check=False)
            expect((done.returncode, done.stdout, done.stderr) == (0, "", ""), done)
            done = subprocess.run([program("setkey"), option, *words], input=bad, env=nowhere, text=True,
                                  capture_output=True, check=False)
            told = re.findall(r"^setkey: stdin:(\d+):\d+: ", done.stderr, re.MULTILINE)
            expect(done.returncode == 1 and told == ["1", "3", "4"] and done.stdout == "", done)
    host.setkey('add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-cbc "1234567890123456";')
    expect(host.run("setkey", "-n", "-f", "-", input="flush;").returncode == 0, "-n")
    expect("spi=4096" in host.run("setkey", "-D").stdout, "-n applied a command")
    host.setkey("flush;")


# ---- the monitor -----------------------------------------------------------------------------------------------------

def check_monitor(host):
    def watch(*words):
        process = host.start("setkey", "-x", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True)
        reader.start()
        wait_until(lambda: lines, "the monitor hears of itself")

        def stop(number):
            process.send_signal(number)
            status = process.wait(PATIENCE)
            reader.join(PATIENCE)
            expect((status, process.stderr.read()) == (0, ""), f"-x ended by signal {number}: exit status {status}")
            return lines
        return lines, stop
    burst = 500
    lines, stop = watch("--json")
    host.setkey("".join(f'add 10.0.0.1 10.0.0.2 esp {0x1000 + n} -E aes-cbc "1234567890123456";' for n in range(burst)))
    host.setkey("flush esp;")
    wait_until(lambda: any('"FLUSH"' in line for line in lines), "the monitor shows the flush")
    seen = [json.loads(line) for line in stop(signal.SIGINT)]
    spis = [entry["sa"]["spi"] for entry in seen if entry["message"] == "ADD" and entry["pid"] != os.getpid()]
    expect(sorted(set(spis)) == [0x1000 + n for n in range(burst)], f"{len(set(spis))} of {burst} additions seen")
    expect(all(abs(entry["time"] - time.time()) < 600 for entry in seen), "times")
    expect("31323334" not in "".join(lines), "the monitor shows keys")

    lines, stop = watch()
    host.setkey("spdflush;")
    wait_until(lambda: any("X_SPDFLUSH" in line for line in lines), "the monitor shows the flush")
    text = "".join(stop(signal.SIGTERM))
    expect(re.search(r"^\d\d:\d\d:\d\d\.\d{6} X_SPDFLUSH seq=\d+ pid=\d+\nsadb_msg\{ version=2 type=19 ", text,
                     re.MULTILINE), text)
    lines, stop = watch("-x", "--oneline")
    expect(re.fullmatch(r"\d{10,}\.\d{6} X_PROMISC seq=0 pid=\d+\n", stop(signal.SIGINT)[0]), lines)


# ---- what may go wrong -----------------------------------------------------------------------------------------------

def check_failures(lab, host):
    host.setkey('add 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-cbc "1234567890123456";')
    with open("/dev/full", "wb") as full:
        done = host.run("setkey", "-D", stdout=full, stderr=subprocess.PIPE)
    expect((done.returncode, done.stderr) == (1, "setkey: standard output: No space left on device\n"), done)
    reader, writer = os.pipe()
    os.close(reader)
    done = host.run("setkey", "-D", stdout=writer, stderr=subprocess.PIPE,
                    restore_signals=False)   # python ignores SIGPIPE, and so does its child then
    os.close(writer)
    expect((done.returncode, done.stderr) == (1, "setkey: standard output: Broken pipe\n"), done)
    host.setkey("flush;")

    victim = lab.host("victim", "--wire", f"unix:{lab.path('victims')}", "--address", "10.0.0.9/24")
    setkey = victim.start("setkey", "-c", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    setkey.stdin.write("dump;\n")
    setkey.stdin.flush()
    expect(setkey.stdout.readline() == "No SAD entries.\n", "no answer")
    victim.process.kill()
    victim.process.wait()
    setkey.stdin.write("dump;\n")
    setkey.stdin.close()
    said = setkey.stderr.read()
    expect(setkey.wait(PATIENCE) == 1 and re.match(r"setkey: the (host|key socket) ", said), f"the host died: {said!r}")


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
    answers("delete 10.0.0.1 10.0.0.2 esp 0x1001;", r"^stdin:\d+:\d+: delete 10.0.0.1 10.0.0.2 esp 0x1001: No entry( \(.*\))?\.$")
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
    check_json(one)
    check_saved(lab)
    check_pipe(one)
    check_check(one)
    check_atomic(lab, one)
    check_monitor(one)
    check_failures(lab, one)
    check_two_hosts(one, other)
    check_many(lab, one)
    check_unmodified(one)


if __name__ == "__main__":
    sys.exit(main(body))
