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
