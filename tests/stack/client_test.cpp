// SPDX-License-Identifier: BSD-2-Clause
// The C API against a fake host: what must hold whatever threads, forks, signals and closed descriptors do.
#include "tests/stack/fake_host.hpp"

#include "stack/client/channel.hpp"
#include "stack/client/descriptors.hpp"

#include <doctest/doctest.h>

#include <latchkey/socket.h>
#include <latchkey/sysctl.h>
#include <net/pfkeyv2.h>
#include <netinet/in.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <set>
#include <thread>
#include <vector>

#include "include/compat/sys/sysctl.h"

using namespace latchkey;
using test::FakeHost;

namespace {

using Pair = std::array<std::uint32_t, 2>;

struct Handle {
    explicit Handle(const FakeHost& fake) : host(latchkey_host_open(fake.path())) { REQUIRE(host != nullptr); }
    ~Handle() { latchkey_host_close(host); }
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
    latchkey_host* host;
};

struct Fd {
    explicit Fd(int number) : fd(number) {}
    ~Fd() { ::close(fd); }
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    int fd;
};

// What the fake host answers for (level, name): the same two numbers, or who asked.
bool ask(latchkey_host* host, int fd, int level, int name, Pair& answer)
{
    socklen_t size = sizeof answer;
    return latchkey_getsockopt(host, fd, level, name, answer.data(), &size) == 0 && size == sizeof answer;
}

bool own_answer(latchkey_host* host, int fd, std::uint32_t level, std::uint32_t name)
{
    Pair answer{};
    return ask(host, fd, static_cast<int>(level), static_cast<int>(name), answer) && answer == Pair{level, name};
}

bool credentials_are(latchkey_host* host, int fd, pid_t pid, uid_t uid)
{
    Pair answer{};
    return ask(host, fd, test::credentials_level, 0, answer) && answer == Pair{static_cast<std::uint32_t>(pid), uid};
}

// Runs the check in a forked child; its result.
bool in_child(const std::function<bool()>& check)
{
    const pid_t child = ::fork();
    if (child == 0)
        ::_exit(check() ? 0 : 1);
    int status = -1;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

std::set<int> open_descriptors()
{
    std::set<int> found;
    for (int fd = 0; fd < 4096; ++fd)
        if (::fcntl(fd, F_GETFD) >= 0)
            found.insert(fd);
    return found;
}

std::vector<std::uint8_t> key_message(std::uint8_t marker, std::size_t size = 16)
{
    std::vector<std::uint8_t> raw(size, marker);
    wire::Writer out(raw, wire::Order::host);
    out.put<std::uint8_t>(PF_KEY_V2);
    out.put<std::uint8_t>(SADB_FLUSH);
    out.put<std::uint16_t>(0);
    out.put<std::uint16_t>(static_cast<std::uint16_t>(size / 8));
    return raw;
}

sockaddr_in port(std::uint16_t number)
{
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(number);
    name.sin_addr.s_addr = htonl(0xc0000263);
    return name;
}

void on_signal(int) {}

void handle(int number, int flags)
{
    struct sigaction action{};
    action.sa_handler = on_signal;
    action.sa_flags = flags;
    ::sigaction(number, &action, nullptr);
}

void set_timer(int microseconds)
{
    const itimerval timer{{0, microseconds}, {0, microseconds}};
    ::setitimer(ITIMER_REAL, &timer, nullptr);
}

}  // namespace

TEST_CASE("opening a host")
{
    CHECK(latchkey_host_open("/nonexistent/latchkey.sock") == nullptr);
    CHECK(errno == ENOENT);
    CHECK(latchkey_host_open(std::string(200, 'x').c_str()) == nullptr);
    CHECK(errno == ENAMETOOLONG);

    FakeHost fake;
    const Handle handle(fake);
    std::array<char, 32> name{};
    CHECK(latchkey_host_name(handle.host, name.data(), name.size()) == 4);
    CHECK(std::string(name.data()) == "fake");
    CHECK(latchkey_host_name(handle.host, name.data(), 3) == 4);
    CHECK(std::string(name.data()) == "fa");

    ::setenv("LATCHKEY", fake.path(), 1);
    latchkey_host* by_default = latchkey_host_open(nullptr);
    CHECK(by_default != nullptr);
    latchkey_host_close(by_default);
    ::unsetenv("LATCHKEY");
}

TEST_CASE("the path of the default host")
{
    std::array<char, 128> path{};
    ::setenv("LATCHKEY", "here.sock", 1);
    CHECK(latchkey_host_path(nullptr, path.data(), path.size()) > 0);
    std::array<char, 4096> directory{};
    CHECK(std::string(path.data()) == std::string(::getcwd(directory.data(), directory.size())) + "/here.sock");
    ::unsetenv("LATCHKEY");
    ::setenv("XDG_RUNTIME_DIR", "/run/user/12345", 1);
    CHECK(latchkey_host_path(nullptr, path.data(), path.size()) > 0);
    CHECK(std::string(path.data())
          == (::geteuid() == 0 ? "/run/latchkey/latchkey.sock" : "/run/user/12345/latchkey.sock"));
    CHECK(latchkey_host_path("/a", path.data(), 2) == -1);
    CHECK(errno == ERANGE);
    CHECK(latchkey_host_path("/a", path.data(), 3) == 2);
}

TEST_CASE("socket() returns an ordinary descriptor: lowest number, flags, kind in the name of its peer")
{
    FakeHost fake;
    const Handle handle(fake);
    const int lowest = ::dup(0);
    ::close(lowest);
    const Fd key(latchkey_pfkey_open(handle.host));
    CHECK(key.fd == lowest);
    CHECK(client::kind_of(key.fd) == control::SocketKind::key);
    CHECK((::fcntl(key.fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK((::fcntl(key.fd, F_GETFL) & O_NONBLOCK) == 0);

    const Fd udp(latchkey_socket(handle.host, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
    CHECK(client::kind_of(udp.fd) == control::SocketKind::udp);
    CHECK((::fcntl(udp.fd, F_GETFD) & FD_CLOEXEC) == 0);
    CHECK((::fcntl(udp.fd, F_GETFL) & O_NONBLOCK) != 0);

    CHECK(latchkey_socket(handle.host, AF_INET, SOCK_DGRAM | 0x40000000, 0) == -1);
    CHECK(errno == EINVAL);
    CHECK(!client::kind_of(0));
    CHECK(!client::kind_of(-1));
}

TEST_CASE("the descriptors of the library are high and close-on-exec - closing the host closes them")
{
    FakeHost fake;
    const auto before = open_descriptors();
    {
        const Handle handle(fake);
        const Fd key(latchkey_pfkey_open(handle.host));
        for (const int fd : open_descriptors()) {
            if (before.contains(fd) || fd == key.fd)
                continue;
            CHECK(fd >= 512);
            CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
        }
        CHECK(open_descriptors().size() == before.size() + 3);   // trunk, one channel, the socket
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("a PF_KEY send returns when the answers are there - malformed messages are refused")
{
    FakeHost fake;
    const Handle handle(fake);
    const Fd key(latchkey_pfkey_open(handle.host));
    const auto message = key_message(7, 64);
    std::array<std::uint8_t, 256> got{};
    for (int round = 0; round < 200; ++round) {
        REQUIRE(latchkey_send(handle.host, key.fd, message.data(), message.size(), 0) == 64);
        // As setkey and racoon do: peek at the header, then take a part; what is left of the record is gone.
        REQUIRE(::recv(key.fd, got.data(), 16, MSG_PEEK | MSG_DONTWAIT) == 16);
        REQUIRE(::recv(key.fd, got.data(), 16, MSG_DONTWAIT) == 16);
        REQUIRE(latchkey_recv(handle.host, key.fd, got.data(), got.size(), MSG_DONTWAIT) == 64);
        REQUIRE(::recv(key.fd, got.data(), got.size(), MSG_DONTWAIT) == -1);
    }
    CHECK(std::equal(message.begin(), message.end(), got.begin()));

    CHECK(latchkey_send(handle.host, key.fd, message.data(), 60, 0) == -1);
    CHECK(errno == EINVAL);
    CHECK(latchkey_send(handle.host, key.fd, message.data(), 0, 0) == -1);
    CHECK(errno == EINVAL);
    CHECK(latchkey_send(handle.host, key.fd, message.data(), 64, MSG_OOB) == -1);
    CHECK(errno == EOPNOTSUPP);
    const auto huge = key_message(1, 100'000);
    CHECK(latchkey_send(handle.host, key.fd, huge.data(), huge.size(), 0) == -1);
    CHECK(errno == EMSGSIZE);
    CHECK(::recv(key.fd, got.data(), got.size(), MSG_DONTWAIT) == -1);

    iovec pieces[3] = {{const_cast<std::uint8_t*>(message.data()), 10},
                       {const_cast<std::uint8_t*>(message.data()) + 10, 0},
                       {const_cast<std::uint8_t*>(message.data()) + 10, 54}};
    msghdr gathered{};
    gathered.msg_iov = pieces;
    gathered.msg_iovlen = 3;
    CHECK(latchkey_sendmsg(handle.host, key.fd, &gathered, 0) == 64);
    CHECK(::recv(key.fd, got.data(), got.size(), MSG_DONTWAIT) == 64);
    CHECK(std::equal(message.begin(), message.end(), got.begin()));
}

TEST_CASE("UDP: the header is added and stripped - sizes, addresses, truncation")
{
    FakeHost fake;
    const Handle handle(fake);
    const Fd udp(latchkey_socket(handle.host, AF_INET, SOCK_DGRAM, 0));
    const auto to = port(4500);
    sockaddr_in from{};
    socklen_t size = sizeof from;
    std::array<char, 16> got{};

    CHECK(latchkey_sendto(handle.host, udp.fd, "hello", 5, 0, client::as_sockaddr(const_cast<sockaddr_in&>(to)),
                          sizeof to) == 5);
    CHECK(latchkey_recvfrom(handle.host, udp.fd, got.data(), got.size(), 0, client::as_sockaddr(from), &size) == 5);
    CHECK(std::string(got.data(), 5) == "hello");
    CHECK(size == sizeof from);
    CHECK(std::memcmp(&from, &to, sizeof from) == 0);

    CHECK(latchkey_send(handle.host, udp.fd, nullptr, 0, 0) == 0);
    CHECK(latchkey_recv(handle.host, udp.fd, got.data(), got.size(), 0) == 0);

    CHECK(latchkey_send(handle.host, udp.fd, "0123456789", 10, 0) == 10);
    CHECK(latchkey_recv(handle.host, udp.fd, got.data(), 4, MSG_PEEK) == 4);
    CHECK(latchkey_recv(handle.host, udp.fd, got.data(), 4, MSG_PEEK | MSG_TRUNC) == 10);
    iovec piece{got.data(), 4};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    CHECK(latchkey_recvmsg(handle.host, udp.fd, &message, 0) == 4);
    CHECK((message.msg_flags & MSG_TRUNC) != 0);

    const std::vector<char> large(65'508, 'x');
    CHECK(latchkey_send(handle.host, udp.fd, large.data(), 65'508, 0) == -1);
    CHECK(errno == EMSGSIZE);
    CHECK(latchkey_send(handle.host, udp.fd, large.data(), 65'507, 0) == 65'507);
    CHECK(latchkey_send(handle.host, udp.fd, large.data(), 60'000, 0) == 60'000);
    std::vector<char> room(70'000);
    CHECK(latchkey_recv(handle.host, udp.fd, room.data(), room.size(), 0) == 60'000);
    CHECK(latchkey_recv(handle.host, udp.fd, got.data(), got.size(), MSG_DONTWAIT) == -1);
    CHECK(errno == EAGAIN);

    sockaddr_in wrong = to;
    wrong.sin_family = AF_UNIX;
    CHECK(latchkey_sendto(handle.host, udp.fd, "x", 1, 0, client::as_sockaddr(wrong), sizeof wrong) == -1);
    CHECK(errno == EAFNOSUPPORT);
    CHECK(latchkey_sendto(handle.host, udp.fd, "x", 1, 0, client::as_sockaddr(wrong), 1) == -1);
    CHECK(errno == EINVAL);
}

TEST_CASE("connect: waiting, not waiting, refused - accept: in order, with the peer's address")
{
    FakeHost fake;
    const Handle handle(fake);
    auto good = port(80), bad = port(2);
    const Fd tcp(latchkey_socket(handle.host, AF_INET, SOCK_STREAM, 0));
    CHECK(latchkey_connect(handle.host, tcp.fd, client::as_sockaddr(good), sizeof good) == 0);
    CHECK(latchkey_connect(handle.host, tcp.fd, client::as_sockaddr(bad), sizeof bad) == -1);
    CHECK(errno == ECONNREFUSED);
    CHECK(latchkey_shutdown(handle.host, tcp.fd, SHUT_WR) == 0);
    CHECK(latchkey_send(handle.host, tcp.fd, "x", 1, 0) == -1);   // and no SIGPIPE
    CHECK(errno == EPIPE);
    ::fcntl(tcp.fd, F_SETFL, O_NONBLOCK);
    CHECK(latchkey_connect(handle.host, tcp.fd, client::as_sockaddr(good), sizeof good) == -1);
    CHECK(errno == EINPROGRESS);

    const Fd listener(latchkey_socket(handle.host, AF_INET, SOCK_STREAM, 0));
    CHECK(latchkey_listen(handle.host, listener.fd, 3) == 0);
    CHECK(latchkey_shutdown(handle.host, listener.fd, SHUT_WR) == 0);   // means nothing, as on Linux
    CHECK(client::kind_of(listener.fd) == control::SocketKind::tcp);
    for (int i = 0; i < 3; ++i) {
        sockaddr_in peer{};
        socklen_t size = sizeof peer;
        const int flags = i == 1 ? SOCK_NONBLOCK | SOCK_CLOEXEC : 0;
        const Fd one(latchkey_accept4(handle.host, listener.fd, client::as_sockaddr(peer), &size, flags));
        REQUIRE(one.fd >= 0);
        CHECK(ntohs(peer.sin_port) == 1000 + i);
        CHECK(((::fcntl(one.fd, F_GETFL) & O_NONBLOCK) != 0) == (i == 1));
        CHECK(((::fcntl(one.fd, F_GETFD) & FD_CLOEXEC) != 0) == (i == 1));
        char digit = 0;
        CHECK(::read(one.fd, &digit, 1) == 1);
        CHECK(digit == '0' + i);
        CHECK(::read(one.fd, &digit, 1) == 0);
    }
    ::fcntl(listener.fd, F_SETFL, O_NONBLOCK);
    CHECK(latchkey_accept(handle.host, listener.fd, nullptr, nullptr) == -1);
    CHECK(errno == EAGAIN);
}

TEST_CASE("accept on what does not listen is EINVAL at once, and leaves a connection's bytes alone")
{
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) == 0);
    REQUIRE(::write(ends[0], "data", 4) == 4);
    FakeHost fake;
    const Handle handle(fake);
    CHECK(latchkey_accept(handle.host, ends[1], nullptr, nullptr) == -1);
    CHECK(errno == EINVAL);
    std::array<char, 8> got{};
    CHECK(::read(ends[1], got.data(), got.size()) == 4);
    const Fd idle(latchkey_socket(handle.host, AF_INET, SOCK_STREAM, 0));
    CHECK(latchkey_accept(handle.host, idle.fd, nullptr, nullptr) == -1);
    CHECK(errno == EINVAL);
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST_CASE("getsockname, text calls")
{
    FakeHost fake;
    const Handle handle(fake);
    const Fd udp(latchkey_socket(handle.host, AF_INET, SOCK_DGRAM, 0));
    sockaddr_in name{};
    socklen_t size = sizeof name;
    CHECK(latchkey_getsockname(handle.host, udp.fd, client::as_sockaddr(name), &size) == 0);
    CHECK(size == sizeof name);
    CHECK(ntohs(name.sin_port) == 7);
    size = 2;
    name = {};
    CHECK(latchkey_getsockname(handle.host, udp.fd, client::as_sockaddr(name), &size) == 0);
    CHECK(size == sizeof name);
    CHECK(name.sin_port == 0);

    char* text = latchkey_host_stat(handle.host, 1);
    REQUIRE(text != nullptr);
    CHECK(std::string(text) == std::string(test::stat_size, 's'));
    std::free(text);
    text = latchkey_host_configure(handle.host, LATCHKEY_ADDRESS, LATCHKEY_LIST, nullptr);
    REQUIRE(text != nullptr);
    CHECK(std::string(text) == "192.0.2.7/24 dev lk0\n");
    std::free(text);
    CHECK(latchkey_host_configure(handle.host, LATCHKEY_ADDRESS, LATCHKEY_ADD, "192.0.2.7/24") == nullptr);
    CHECK(errno == EEXIST);
}

TEST_CASE("sysctlbyname: sizes, old and new values, refusals, as on the BSDs")
{
    FakeHost fake;
    const Handle handle(fake);
    auto* host = handle.host;
    int old = -7;
    std::size_t size = 0;
    CHECK(latchkey_sysctlbyname(host, "net.key.debug", nullptr, &size, nullptr, 0) == 0);
    CHECK(size == sizeof(int));
    CHECK(latchkey_sysctlbyname(host, "net.key.debug", &old, &size, nullptr, 0) == 0);
    CHECK(old == 0);
    int fresh = 5;
    CHECK(latchkey_sysctlbyname(host, "net.key.debug", &old, &size, &fresh, sizeof fresh) == 0);
    CHECK(old == 0);
    CHECK(latchkey_sysctlbyname(host, "net.key.debug", &old, &size, nullptr, 0) == 0);
    CHECK(old == 5);

    const auto refused = [&](int number, const char* name, const void* value, std::size_t length) {
        const int result = latchkey_sysctlbyname(host, name, nullptr, nullptr, value, length);
        return result == -1 && errno == number;
    };
    CHECK(refused(ENOENT, "net.key", nullptr, 0));
    CHECK(refused(ENOENT, "net.key.nonsense", &fresh, sizeof fresh));
    CHECK(refused(EPERM, "net.inet.ipsec.used", &fresh, sizeof fresh));
    CHECK(refused(EINVAL, "net.key.debug", &fresh, sizeof fresh - 1));
    const std::int64_t wide = 1;
    CHECK(refused(EINVAL, "net.key.debug", &wide, sizeof wide));
    fresh = -1;
    CHECK(refused(EINVAL, "net.key.debug", &fresh, sizeof fresh));
    CHECK(refused(EFAULT, nullptr, nullptr, 0));
    CHECK(latchkey_sysctlbyname(host, "net.key.debug", &old, nullptr, nullptr, 0) == -1);
    CHECK(errno == EFAULT);

    // Too little room: what fits is there, nothing is set.
    std::array<std::uint8_t, 4> room{9, 9, 9, 9};
    size = 2;
    fresh = 6;
    CHECK(latchkey_sysctlbyname(host, "net.key.debug", room.data(), &size, &fresh, sizeof fresh) == -1);
    CHECK(errno == ENOMEM);
    CHECK(size == 2);
    CHECK(room == std::array<std::uint8_t, 4>{5, 0, 9, 9});
    size = 16;
    CHECK(latchkey_sysctlbyname(host, "net.key.debug", room.data(), &size, nullptr, 0) == 0);
    CHECK(size == 4);

    // The same bits mean -1 here and 0xffffffff there.
    fresh = -1;
    CHECK(latchkey_sysctlbyname(host, "net.inet.ipsec.ecn", nullptr, nullptr, &fresh, sizeof fresh) == 0);
    CHECK(latchkey_sysctlbyname(host, "net.inet.ipsec.ecn", &old, &size, nullptr, 0) == 0);
    CHECK(old == -1);
    CHECK(latchkey_sysctlbyname(host, "net.key.spi_maxval", nullptr, nullptr, &fresh, sizeof fresh) == 0);
    CHECK(latchkey_sysctlbyname(host, "net.key.spi_maxval", &old, &size, nullptr, 0) == 0);
    CHECK(static_cast<unsigned>(old) == 0xffffffff);
}

TEST_CASE("sysctlbyname without a host: the default one")
{
    FakeHost fake;
    CHECK(in_child([&] {
        ::setenv("LATCHKEY", fake.path(), 1);
        int value = 3;
        std::size_t size = sizeof value;
        return sysctlbyname("net.key.debug", nullptr, nullptr, &value, size) == 0 && (value = 0, true)
            && sysctlbyname("net.key.debug", &value, &size, nullptr, 0) == 0 && value == 3
            && latchkey_sysctlbyname(nullptr, "net.nonsense", &value, &size, nullptr, 0) == -1 && errno == ENOENT;
    }));
    CHECK(in_child([] {
        ::setenv("LATCHKEY", "/nonexistent/host.sock", 1);
        int value = 0;
        std::size_t size = sizeof value;
        return sysctlbyname("net.key.debug", &value, &size, nullptr, 0) == -1 && errno == ENOENT;
    }));
}

TEST_CASE("why a PF_KEY message was refused")
{
    FakeHost fake;
    const Handle handle(fake);
    const Fd key(latchkey_pfkey_open(handle.host));
    std::array<char, 64> text{"untouched"};
    CHECK(latchkey_pfkey_reason(handle.host, key.fd, text.data(), text.size()) == 0);
    CHECK(std::string(text.data()).empty());
    CHECK(latchkey_send(handle.host, key.fd, "short", 5, 0) == -1);
    CHECK(errno == EINVAL);
    CHECK(latchkey_pfkey_reason(handle.host, key.fd, text.data(), text.size()) == 19);
    CHECK(std::string(text.data()) == "not a whole message");
    CHECK(latchkey_pfkey_reason(handle.host, key.fd, text.data(), 4) == 19);
    CHECK(std::string(text.data()) == "not");
    CHECK(latchkey_pfkey_reason(handle.host, key.fd, nullptr, 0) == 19);
    CHECK(latchkey_pfkey_reason(handle.host, STDIN_FILENO, text.data(), text.size()) == -1);
    CHECK(latchkey_pfkey_reason(handle.host, -1, text.data(), text.size()) == -1);
    CHECK(errno == EBADF);
}

TEST_CASE("a descriptor that is not the host's is refused")
{
    FakeHost fake;
    const Handle handle(fake);
    CHECK(latchkey_listen(handle.host, -1, 1) == -1);
    CHECK(errno == EBADF);
    const Fd file(::open("/dev/null", O_RDONLY));
    CHECK(latchkey_listen(handle.host, file.fd, 1) == -1);
    CHECK(errno == ENOTSOCK);
    CHECK(latchkey_listen(handle.host, 4000, 1) == -1);
    CHECK(errno == EBADF);
}

TEST_CASE("many threads, each gets its own answers")
{
    FakeHost fake;
    const Handle handle(fake);
    const Fd udp(latchkey_socket(handle.host, AF_INET, SOCK_DGRAM, 0));
    const auto before = open_descriptors().size();
    std::atomic<int> wrong = 0;
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 80; ++t)   // more than the pool has channels
        threads.emplace_back([&, t] {
            for (unsigned i = 0; i < 50; ++i)
                wrong += own_answer(handle.host, udp.fd, 1000 + t, i) ? 0 : 1;
        });
    for (auto& thread : threads)
        thread.join();
    CHECK(wrong == 0);
    CHECK(open_descriptors().size() <= before + 64);
}

TEST_CASE("fork while other threads are in calls: parent and children get their own answers and credentials")
{
    FakeHost fake;
    const Handle handle(fake);
    const Fd udp(latchkey_socket(handle.host, AF_INET, SOCK_DGRAM, 0));
    std::atomic<bool> stop = false;
    std::atomic<int> wrong = 0;
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
            for (unsigned i = 0; !stop; ++i)
                wrong += own_answer(handle.host, udp.fd, 2000 + t, i) ? 0 : 1;
        });
    int failed = 0;
    for (unsigned round = 0; round < 40; ++round)
        failed += in_child([&] {
            for (unsigned i = 0; i < 20; ++i)
                if (!own_answer(handle.host, udp.fd, 3000 + round, i))
                    return false;
            const bool own = credentials_are(handle.host, udp.fd, ::getpid(), ::geteuid());
            return own && in_child([&] {   // and its child
                return credentials_are(handle.host, udp.fd, ::getpid(), ::geteuid());
            });
        }) ? 0 : 1;
    stop = true;
    for (auto& thread : threads)
        thread.join();
    CHECK(failed == 0);
    CHECK(wrong == 0);
    CHECK(credentials_are(handle.host, udp.fd, ::getpid(), ::geteuid()));
}

TEST_CASE("a vfork child's calls do not disturb its parent")
{
    FakeHost fake;
    const Handle handle(fake);
    const Fd udp(latchkey_socket(handle.host, AF_INET, SOCK_DGRAM, 0));
    const auto before = open_descriptors();
    const pid_t child = ::vfork();
    if (child == 0)
        ::_exit(own_answer(handle.host, udp.fd, 5, 6) ? 0 : 1);
    int status = -1;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
    CHECK(own_answer(handle.host, udp.fd, 7, 8));
    CHECK(open_descriptors() == before);
}

TEST_CASE("after chroot and setuid")
{
    if (::geteuid() != 0) {
        MESSAGE("skipped: needs root");
        return;
    }
    FakeHost fake;
    const Handle handle(fake);
    const Fd udp(latchkey_socket(handle.host, AF_INET, SOCK_DGRAM, 0));
    const auto jail = fake.directory() + "/jail";
    REQUIRE(::mkdir(jail.c_str(), 0700) == 0);
    REQUIRE(::chmod(fake.path(), 0600) == 0);
    CHECK(in_child([&] {
        if (::chroot(jail.c_str()) < 0 || ::chdir("/") < 0 || ::setuid(12345) < 0 || ::access(fake.path(), F_OK) == 0)
            return false;
        const Fd more(latchkey_socket(handle.host, AF_INET, SOCK_DGRAM, 0));
        return more.fd >= 0 && credentials_are(handle.host, udp.fd, ::getpid(), 12345);
    }));
    ::rmdir(jail.c_str());
}

TEST_CASE("a storm of signals changes nothing - an interrupted connect ends with EINTR")
{
    FakeHost fake;
    const Handle host(fake);
    const Fd udp(latchkey_socket(host.host, AF_INET, SOCK_DGRAM, 0));
    for (const int flags : {0, SA_RESTART}) {
        handle(SIGALRM, flags);
        set_timer(100);
        int wrong = 0;
        for (unsigned i = 0; i < 2000; ++i)
            wrong += own_answer(host.host, udp.fd, 4000, i) ? 0 : 1;
        set_timer(0);
        CHECK(wrong == 0);
    }
    handle(SIGALRM, 0);
    const Fd tcp(latchkey_socket(host.host, AF_INET, SOCK_STREAM, 0));
    auto nobody = port(1);
    set_timer(20'000);
    CHECK(latchkey_connect(host.host, tcp.fd, client::as_sockaddr(nobody), sizeof nobody) == -1);
    CHECK(errno == EINTR);
    set_timer(0);
    CHECK(own_answer(host.host, udp.fd, 4001, 1));
}

namespace {

std::atomic<int> handler_wrong = 0;
latchkey_host* handler_host = nullptr;
int handler_fd = -1;

void call_in_handler(int)
{
    const int error_before = errno;
    handler_wrong += own_answer(handler_host, handler_fd, 6000, 1) ? 0 : 1;
    errno = error_before;
}

}  // namespace

TEST_CASE("calls in a signal handler that interrupts a call")
{
    FakeHost fake;
    const Handle host(fake);
    const Fd udp(latchkey_socket(host.host, AF_INET, SOCK_DGRAM, 0));
    handler_host = host.host;
    handler_fd = udp.fd;
    handler_wrong = 0;
    struct sigaction action{};
    action.sa_handler = call_in_handler;
    ::sigaction(SIGALRM, &action, nullptr);
    set_timer(500);
    int wrong = 0;
    for (unsigned i = 0; i < 2000; ++i)
        wrong += own_answer(host.host, udp.fd, 6001, i) ? 0 : 1;
    set_timer(0);
    CHECK(wrong == 0);
    CHECK(handler_wrong == 0);
}

TEST_CASE("a program that closes or replaces descriptors that it does not know")
{
    FakeHost fake;
    const Handle handle(fake);
    const Fd udp(latchkey_socket(handle.host, AF_INET, SOCK_DGRAM, 0));
    REQUIRE(own_answer(handle.host, udp.fd, 1, 1));

    SUBCASE("closed")
    {
        for (int fd = 512; fd < 1024; ++fd)
            ::close(fd);
        CHECK(own_answer(handle.host, udp.fd, 1, 2));
    }
    SUBCASE("the numbers belong to somebody else now, who is left alone")
    {
        std::array<int, 2> ends{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends.data()) == 0);
        std::vector<int> replaced;
        for (int fd = 512; fd < 1024; ++fd)
            if (::fcntl(fd, F_GETFD) >= 0 && ::dup2(ends[0], fd) == fd)
                replaced.push_back(fd);
        REQUIRE(replaced.size() >= 2);
        CHECK(own_answer(handle.host, udp.fd, 1, 2));
        CHECK(own_answer(handle.host, udp.fd, 1, 3));
        char byte = 0;
        CHECK(::recv(ends[1], &byte, 1, MSG_DONTWAIT) == -1);
        CHECK(errno == EAGAIN);
        for (const int fd : replaced)
            CHECK(client::socket_cookie(fd) == client::socket_cookie(ends[0]));
        for (const int fd : replaced)
            ::close(fd);
        ::close(ends[0]);
        ::close(ends[1]);
    }
}

TEST_CASE("few descriptors allowed: no call leaks, the errno is EMFILE")
{
    FakeHost fake;
    CHECK(in_child([&] {
        const rlimit limit{32, 32};
        ::setrlimit(RLIMIT_NOFILE, &limit);
        latchkey_host* host = latchkey_host_open(fake.path());
        if (host == nullptr)
            return false;
        std::vector<int> all;
        for (int fd = 0; fd >= 0;)
            all.push_back(fd = latchkey_socket(host, AF_INET, SOCK_DGRAM, 0));
        if (errno != EMFILE || all.size() < 10)
            return false;
        ::close(all[0]);
        return latchkey_socket(host, AF_INET, SOCK_DGRAM, 0) == all[0];
    }));
}

TEST_CASE("the host's death ends calls with ENETDOWN, and a new host at the same path is found")
{
    FakeHost fake;
    const Handle handle(fake);
    const Fd key(latchkey_pfkey_open(handle.host)), udp(latchkey_socket(handle.host, AF_INET, SOCK_DGRAM, 0));
    std::atomic<int> result = 0;
    std::thread waiting([&] {
        Pair answer{};
        result = ask(handle.host, udp.fd, test::slow_level, 60'000, answer) ? 0 : errno;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    fake.kill();
    waiting.join();
    CHECK(result == ENETDOWN);

    const auto message = key_message(1);
    CHECK(latchkey_send(handle.host, key.fd, message.data(), message.size(), 0) == -1);
    CHECK(errno == ENOENT);   // the path is gone, too
    CHECK(latchkey_send(handle.host, udp.fd, "x", 1, 0) == -1);
    CHECK(errno == ENETDOWN);
    std::array<char, 8> got{};
    CHECK(latchkey_recv(handle.host, udp.fd, got.data(), got.size(), 0) == -1);
    CHECK(errno == ENETDOWN);
    CHECK(latchkey_recv(handle.host, key.fd, got.data(), got.size(), 0) == 0);

    fake.start();
    const auto before = open_descriptors().size();
    const Fd again(latchkey_pfkey_open(handle.host));
    CHECK(latchkey_send(handle.host, again.fd, message.data(), message.size(), 0) == 16);
    CHECK(latchkey_send(handle.host, key.fd, message.data(), message.size(), 0) == -1);
    CHECK(errno == ENOTSOCK);   // a socket of the old host
    CHECK(open_descriptors().size() <= before + 2);
}

TEST_CASE("a cancelled thread leaves no half-done call behind")
{
    FakeHost fake;
    const Handle handle(fake);
    const Fd udp(latchkey_socket(handle.host, AF_INET, SOCK_DGRAM, 0));
    for (int round = 0; round < 20; ++round) {
        std::atomic<bool> started = false;
        struct Context {
            latchkey_host* host;
            int fd;
            std::atomic<bool>* started;
        } context{handle.host, udp.fd, &started};
        pthread_t thread{};
        pthread_create(&thread, nullptr, [](void* raw) -> void* {
            const auto& given = *static_cast<Context*>(raw);
            *given.started = true;
            for (;;) {
                own_answer(given.host, given.fd, 9, 9);
                pthread_testcancel();
            }
        }, &context);
        while (!started)
            std::this_thread::yield();
        pthread_cancel(thread);
        pthread_join(thread, nullptr);
        REQUIRE(own_answer(handle.host, udp.fd, 10, 10));
    }
    CHECK(open_descriptors().size() < 20);
}
