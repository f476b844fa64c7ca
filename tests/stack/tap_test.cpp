// SPDX-License-Identifier: BSD-2-Clause
// A TAP wire against this machine's kernel, in a network namespace of its own. Exit status 77: not possible here.
#include "stack/wire/wire.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace latchkey;
using namespace std::chrono_literals;

namespace {

using Frame = std::vector<std::uint8_t>;
const std::string interface_name = "lktest0";

void check(bool good, const char* what, int line)
{
    if (good)
        return;
    std::fprintf(stderr, "tap_test.cpp:%d: not so: %s\n", line, what);
    std::exit(1);
}
#define CHECK(x) check((x), #x, __LINE__)

[[noreturn]] void skip(const char* why)
{
    std::printf("skipped: %s\n", why);
    std::exit(77);
}

// The address 10.99.0.1/24, and up: what a user does with ip(8).
void configure()
{
    const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ifreq request{};
    interface_name.copy(request.ifr_name, IFNAMSIZ - 1);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    ::inet_pton(AF_INET, "10.99.0.1", &address.sin_addr);
    std::memcpy(&request.ifr_addr, &address, sizeof address);
    CHECK(::ioctl(fd, SIOCSIFADDR, &request) == 0);
    ::inet_pton(AF_INET, "255.255.255.0", &address.sin_addr);
    std::memcpy(&request.ifr_netmask, &address, sizeof address);
    CHECK(::ioctl(fd, SIOCSIFNETMASK, &request) == 0);
    request.ifr_flags = IFF_UP;
    CHECK(::ioctl(fd, SIOCSIFFLAGS, &request) == 0);
    ::close(fd);
}

// The first frame that `wanted` accepts; the kernel sends others of its own accord.
template <class Wanted> Frame wait_for(Wire& wire, Wanted wanted)
{
    Frame found;
    for (int tries = 0; tries < 100 && found.empty(); ++tries) {
        for (const auto& watch : wire.watches()) {
            pollfd p{watch.fd, POLLIN, 0};
            ::poll(&p, 1, 50);
        }
        wire.receive(
            [&](MutableBytes bytes) {
                if (found.empty() && wanted(bytes))
                    found.assign(bytes.begin(), bytes.end());
            },
            16, 1s);
    }
    return found;
}

constexpr std::uint8_t our_mac[6] = {2, 0, 0, 0, 0, 2};

void kernel_answers_arp(Wire& wire)
{
    Frame request{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1,
                  2, 0, 0, 0, 0, 2, 10, 99, 0, 2, 0, 0, 0, 0, 0, 0, 10, 99, 0, 1};
    wire.send(request, 1s);
    const auto reply =
        wait_for(wire, [](Bytes f) { return wire::field<std::uint16_t>(f, 12) == 0x0806 && f[21] == 2; });
    CHECK(reply.size() >= 42);
    CHECK(std::memcmp(reply.data(), our_mac, 6) == 0);
    CHECK(wire::field<std::uint32_t>(reply, 28) == 0x0a630001);
    CHECK(wire::field<std::uint32_t>(reply, 38) == 0x0a630002);
}

void kernel_sends_a_datagram(Wire& wire)
{
    const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_in peer{};
    peer.sin_family = AF_INET;
    peer.sin_port = htons(7);
    ::inet_pton(AF_INET, "10.99.0.2", &peer.sin_addr);
    const std::vector<char> text(1400, 'x');
    CHECK(::sendto(fd, text.data(), text.size(), 0, reinterpret_cast<const sockaddr*>(&peer), sizeof peer) == 1400);
    const auto got = wait_for(
        wire, [](Bytes f) { return wire::field<std::uint16_t>(f, 12) == 0x0800 && f.size() == 14 + 28 + 1400; });
    CHECK(got.size() == 1442);
    CHECK(wire::field<std::uint32_t>(got, 30) == 0x0a630002);
    CHECK(got.back() == 'x');
    ::close(fd);
}

void refusals()
{
    const auto again = open_tap(interface_name);
    CHECK(!again && again.error() == "another process uses this interface");
    const auto loopback = open_tap("lo");
    CHECK(!loopback &&
          loopback.error() == "an interface of this name exists and is not a TAP interface with one queue");
    const auto child = ::fork();
    if (child == 0) {
        // Without privilege, if this process can drop it at all.
        if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0)
            ::_exit(0);
        const auto denied = open_tap("lktest1");
        ::_exit(!denied &&
                        denied.error().starts_with("no permission: run with CAP_NET_ADMIN, or have the interface made")
                    ? 0
                    : 1);
    }
    int status = -1;
    CHECK(::waitpid(child, &status, 0) == child && status == 0);
}

void interface_disappears(Wire& wire)
{
    if (std::system(("ip link delete " + interface_name + " 2>/dev/null").c_str()) != 0) {
        std::puts("not tested: the end of the interface (no ip command)");
        return;
    }
    const auto before = wire.generation();
    CHECK(wait_for(wire, [](Bytes) { return false; }).empty());
    CHECK(wire.watches().empty());
    CHECK(wire.generation() != before);
    wire.send(Frame(60), 1s);
    CHECK(wire.stats().dropped > 0);
}

}  // namespace

int main()
{
    if (::unshare(CLONE_NEWNET) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
        skip("no permission to make a network namespace");
    if (const int fd = ::open("/dev/net/tun", O_RDWR | O_CLOEXEC); fd >= 0)
        ::close(fd);
    else
        skip("/dev/net/tun cannot be opened");

    auto wire = open_tap(interface_name);
    if (!wire)
        std::fprintf(stderr, "%s\n", wire.error().c_str());
    CHECK(wire.has_value());
    CHECK((*wire)->name() == "tap:" + interface_name);
    (*wire)->send(Frame(60), 1s);
    CHECK((*wire)->stats().dropped == 1);   // it is not up yet
    configure();
    (*wire)->send(Frame(13), 1s);
    (*wire)->send(Frame(65536), 1s);
    CHECK((*wire)->stats().refused == 2);
    kernel_answers_arp(**wire);
    kernel_sends_a_datagram(**wire);
    refusals();
    interface_disappears(**wire);
    std::puts("ok");
}
