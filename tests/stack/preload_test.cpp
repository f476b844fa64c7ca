// SPDX-License-Identifier: BSD-2-Clause
// Programs under the preload library, against a fake host: an unmodified python3, and this test as its own program.
#include "tests/stack/fake_host.hpp"

#include <doctest/doctest.h>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>

using latchkey::test::FakeHost;

namespace {

// Python's exit status; what it asserts goes to standard error.
int python(const char* host_path, const std::string& script)
{
    const std::string program = R"(
import ctypes, errno, fcntl, os, select, socket, struct, sys, threading
def message(kind=9, size=16, units=None):
    return struct.pack('=BBBBHHII', 2, kind, 0, 0, units if units is not None else size // 8, 0, 1, os.getpid()) + b'x' * (size - 16)
def refused(number, call, *arguments):
    try: call(*arguments)
    except OSError as error: assert error.errno == number, (error, number)
    else: assert False, 'not refused'
def key(): return socket.socket(15, socket.SOCK_RAW, 2)
)" + script;
    const pid_t child = ::fork();
    if (child == 0) {
        ::setenv("LATCHKEY", host_path, 1);
        ::setenv("LD_PRELOAD", LATCHKEY_PRELOAD, 1);
        ::execlp("python3", "python3", "-S", "-c", program.c_str(), static_cast<char*>(nullptr));
        ::_exit(127);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool have_python()
{
    static const bool found = std::system("command -v python3 >/dev/null") == 0;
    if (!found)
        MESSAGE("skipped: needs python3");
    return found;
}

}  // namespace

TEST_CASE("a message is answered when send returns, whichever call sends it")
{
    if (!have_python())
        return;
    FakeHost fake;
    CHECK(python(fake.path(), R"(
s = key()
m = message(size=64)
libc = ctypes.CDLL(None, use_errno=True)
sends = [s.send, s.sendall, lambda d: s.send(d, socket.MSG_DONTWAIT), lambda d: s.sendmsg([d[:10], d[10:]]),
         lambda d: libc.sendto(s.fileno(), d, len(d), 0, None, 0),
         lambda d: os.write(s.fileno(), d), lambda d: os.writev(s.fileno(), [d[:1], d[1:]])]
for send in sends * 50:
    send(m)
    assert s.recv(16, socket.MSG_PEEK | socket.MSG_DONTWAIT) == m[:16]
    assert s.recv(4096, socket.MSG_DONTWAIT) == m
    assert s.recv(4096, socket.MSG_DONTWAIT) == m
    refused(errno.EAGAIN, s.recv, 1, socket.MSG_DONTWAIT)
)") == 0);
}

TEST_CASE("malformed messages fail with EINVAL and leave nothing behind - out-of-band data is not offered")
{
    if (!have_python())
        return;
    FakeHost fake;
    CHECK(python(fake.path(), R"(
s = key()
for bad in b'', b'x', message()[:15], message() + b'y', message(units=3):
    refused(errno.EINVAL, s.send, bad)
    refused(errno.EINVAL, os.write, s.fileno(), bad)
    refused(errno.EAGAIN, s.recv, 1, socket.MSG_DONTWAIT)
refused(errno.EOPNOTSUPP, s.send, message(), socket.MSG_OOB)
refused(errno.EMSGSIZE, s.send, message(size=400000))
)") == 0);
}

TEST_CASE("socket() refuses what a kernel refuses, and leaves other families alone")
{
    if (!have_python())
        return;
    FakeHost fake;
    CHECK(python(fake.path(), R"(
refused(errno.EPROTONOSUPPORT, socket.socket, 15, socket.SOCK_RAW, 0)
refused(errno.ESOCKTNOSUPPORT, socket.socket, 15, socket.SOCK_STREAM, 2)
refused(errno.ESOCKTNOSUPPORT, socket.socket, 15, socket.SOCK_DGRAM, 2)
s = socket.socket(15, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 2)
assert fcntl.fcntl(s, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
assert fcntl.fcntl(s, fcntl.F_GETFL) & os.O_NONBLOCK
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 131072)
assert s.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= 131072
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
a.send(message()); assert b.recv(99) == message()
t = socket.socket(); t.bind(('127.0.0.1', 0)); t.listen()
c = socket.create_connection(t.getsockname()); c.sendall(message()); assert t.accept()[0].recv(99) == message()
r, w = os.pipe(); assert os.write(w, message()) == 16 and os.writev(w, [message()]) == 16
)") == 0);
}

TEST_CASE("an IKE daemon's own sockets: bypass and UDP encapsulation hold, whatever the kernel says")
{
    if (!have_python())
        return;
    FakeHost fake;
    CHECK(python(fake.path(), R"(
def policy(kind, direction, length=2, ext=18): return struct.pack('=HHHBBII', length, ext, kind, direction, 0, 0, 0)
BYPASS, IPSEC, ENTRUST, NONE = 4, 2, 3, 1
class Plain:   # what the kernel says by itself: the same calls past the library
    libc = ctypes.CDLL(None, use_errno=True)
    def set(self, s, level, name, value):
        SYS_setsockopt = {'x86_64': 54, 'aarch64': 208}.get(os.uname().machine)
        assert SYS_setsockopt is not None, 'which number has setsockopt here?'
        done = self.libc.syscall(SYS_setsockopt, s.fileno(), level, name, value, len(value))
        return 0 if done == 0 else ctypes.get_errno()
def ours(s, level, name, value):
    try: s.setsockopt(level, name, value)
    except OSError as error: return error.errno
    return 0
def socks():
    return [(socket.socket(family, kind), level, option)
            for family, level, option in ((2, 0, 16), (10, 41, 34), (10, 0, 16))
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
kernel = Plain()
asked = ((BYPASS, 1), (BYPASS, 2), (ENTRUST, 1), (ENTRUST, 2), (IPSEC, 2), (NONE, 1), (BYPASS, 0), (BYPASS, 3), (9, 1))
# Without a PF_KEY socket nothing changes.
for s, level, option in socks():
    for kind, direction in asked:
        assert ours(s, level, option, policy(kind, direction)) == kernel.set(s, level, option, policy(kind, direction)), (level, kind)
k = key()
for s, level, option in socks():
    for kind, direction in asked:
        value = policy(kind, direction)
        expected = 0 if kind in (BYPASS, ENTRUST) and direction in (1, 2) else kernel.set(s, level, option, value)
        assert ours(s, level, option, value) == expected, (level, kind, direction)
    assert ours(s, level, option, policy(BYPASS, 1, ext=12)) == 0   # as OpenIKED sends it
    for short in (b'', policy(BYPASS, 1)[:15], policy(BYPASS, 1, length=3)):
        assert ours(s, level, option, short) == kernel.set(s, level, option, short) != 0
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
assert ours(s, 17, 100, struct.pack('=i', 2)) == 0
assert ours(s, 17, 100, struct.pack('=i', 77)) == kernel.set(s, 17, 100, struct.pack('=i', 77)) != 0
# Other options and other sockets are the kernel's.
assert ours(s, socket.SOL_SOCKET, socket.SO_REUSEADDR, struct.pack('=i', 1)) == 0
assert s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
for other in (k, socket.socket(socket.AF_UNIX)):
    assert ours(other, 0, 16, policy(BYPASS, 1)) == kernel.set(other, 0, 16, policy(BYPASS, 1)) != 0
)") == 0);
}

TEST_CASE("without a host, a family that is not supported")
{
    if (!have_python())
        return;
    CHECK(python("/nonexistent/host.sock", R"(
refused(errno.EAFNOSUPPORT, key)
os.setuid(os.getuid())
)") == 0);
}

TEST_CASE("poll, dup, threads, fork, exec and passing a descriptor on")
{
    if (!have_python())
        return;
    FakeHost fake;
    CHECK(python(fake.path(), R"(
s = key(); s.send(message())
p = select.poll(); p.register(s, select.POLLIN); assert p.poll(0)
for i in range(2): s.recv(99)
assert not p.poll(0)

def hammer(socket_of_mine):
    for i in range(100):
        m = message(size=16 + 8 * (i % 50))
        socket_of_mine.send(m)
        assert socket_of_mine.recv(999) == m == socket_of_mine.recv(999)
failures = []
def guarded():
    try: hammer(key())
    except BaseException as error: failures.append(error)
threads = [threading.Thread(target=guarded) for i in range(8)]
for t in threads: t.start()
children = []
for i in range(8):
    child = os.fork()
    if child == 0:
        try: hammer(key()); os._exit(0)
        except BaseException: os._exit(1)
    children.append(child)
for t in threads: t.join()
assert not failures, failures
for child in children: assert os.waitpid(child, 0)[1] == 0

# A program that was given the descriptor, by exec and by SCM_RIGHTS: answers are there at once, too.
d = s.dup(); d.set_inheritable(True)
status = os.spawnvp(os.P_WAIT, sys.executable, [sys.executable, '-S', '-c', '''
import os, struct
m = struct.pack('=BBBBHHII', 2, 9, 0, 0, 2, 0, 1, 1)
os.write(%d, m)
os.set_blocking(%d, False)
assert os.read(%d, 99) == m == os.read(%d, 99)
''' % (d.fileno(), d.fileno(), d.fileno(), d.fileno())])
assert status == 0, status
)") == 0);
}

TEST_CASE("privilege separation: chroot and setuid before the first PF_KEY call, then the parent's descriptor")
{
    if (!have_python())
        return;
    if (::geteuid() != 0) {
        MESSAGE("skipped: needs root");
        return;
    }
    FakeHost fake;
    ::chmod(fake.path(), 0600);
    const auto jail = fake.directory() + "/jail";
    REQUIRE(::mkdir(jail.c_str(), 0755) == 0);
    CHECK(python(fake.path(), "jail = '" + jail + R"('
a, b = socket.socketpair()
child = os.fork()
if child == 0:
    try:
        os.chroot(jail); os.chdir('/'); os.setgroups([]); os.setuid(12345)
        fd = socket.recv_fds(b, 1, 1)[1][0]
        m = message(size=32)
        for i in range(100):
            assert os.write(fd, m) == 32
            s = socket.socket(fileno=os.dup(fd))
            assert s.recv(99, socket.MSG_DONTWAIT) == m == s.recv(99, socket.MSG_DONTWAIT)
        os._exit(0)
    except BaseException as error:
        print(error, file=sys.stderr); os._exit(1)
s = key()
socket.send_fds(a, [b'f'], [s.fileno()])
assert os.waitpid(child, 0)[1] == 0
)") == 0);
    ::rmdir(jail.c_str());
}

TEST_CASE("closing all descriptors, and a host that is out of reach: messages go asynchronously")
{
    if (!have_python())
        return;
    FakeHost fake;
    CHECK(python(fake.path(), R"(
s = key(); m = message()
os.closerange(512, 1024)
s.send(m); assert s.recv(99, socket.MSG_DONTWAIT) == m == s.recv(99, socket.MSG_DONTWAIT)
os.closerange(512, 1024)
path = os.environ['LATCHKEY']; os.rename(path, path + '.away')
s.send(m)
assert s.recv(99) == m   # once: the fake host's answer to a record that came without the interposer
os.rename(path + '.away', path)
)") == 0);
}

TEST_CASE("the host's death is an error, not a signal and not a hang")
{
    if (!have_python())
        return;
    FakeHost fake;
    const pid_t killer = ::fork();
    if (killer == 0) {
        // Waits until the program under test has its socket (it makes a file), then ends the host.
        const auto ready = fake.directory() + "/ready";
        while (::access(ready.c_str(), F_OK) < 0)
            ::usleep(1000);
        ::unlink(ready.c_str());
        ::kill(fake.process(), SIGKILL);
        ::_exit(0);
    }
    CHECK(python(fake.path(), R"(
import signal, time
signal.signal(signal.SIGPIPE, signal.SIG_DFL)   # which Python ignores, unlike most programs
s = key()
ready = os.path.dirname(os.environ['LATCHKEY']) + '/ready'
open(ready, 'w').close()
while s.recv(99): pass
refused(errno.ENETDOWN, s.send, message())
refused(errno.ENETDOWN, os.write, s.fileno(), message())
refused(errno.EAFNOSUPPORT, key)
)") == 0);
    ::waitpid(killer, nullptr, 0);
}
