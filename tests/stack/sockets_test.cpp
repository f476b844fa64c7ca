// SPDX-License-Identifier: BSD-2-Clause
// The socket manager over a real lwIP that talks to itself through its loopback: UDP, ping, key sockets, options.
#include "tests/stack/sockets_fixture.hpp"

#include "lwip/memp.h"
#include "lwip/stats.h"

#include <arpa/inet.h>
#include <numeric>

using namespace latchkey;
using namespace latchkey::test;
using namespace std::chrono_literals;

TEST_CASE("open: which sockets exist, and Linux' errno for those that do not")
{
    SocketsFixture f;
    const auto refused = [&](int domain, int type, int protocol, Credentials by = root) {
        const auto id = f.sockets.open(domain, type, protocol, by);
        return id ? 0 : id.error();
    };
    for (const int domain : {AF_INET, AF_INET6}) {
        CHECK(refused(domain, SOCK_STREAM, 0, user) == 0);
        CHECK(refused(domain, SOCK_STREAM, IPPROTO_TCP, user) == 0);
        CHECK(refused(domain, SOCK_DGRAM, IPPROTO_UDP, user) == 0);
        CHECK(refused(domain, SOCK_STREAM, IPPROTO_UDP) == EPROTONOSUPPORT);
        CHECK(refused(domain, SOCK_DGRAM, IPPROTO_TCP) == EPROTONOSUPPORT);
        CHECK(refused(domain, SOCK_RAW, IPPROTO_ICMP) == ESOCKTNOSUPPORT);
    }
    CHECK(refused(AF_INET, SOCK_DGRAM, IPPROTO_ICMP) == 0);
    CHECK(refused(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6) == 0);
    CHECK(refused(AF_INET, SOCK_DGRAM, IPPROTO_ICMPV6) == EPROTONOSUPPORT);
    CHECK(refused(AF_UNIX, SOCK_STREAM, 0) == EAFNOSUPPORT);
    CHECK(refused(9999, SOCK_STREAM, 0) == EAFNOSUPPORT);
    CHECK(refused(AF_KEY, SOCK_RAW, PF_KEY_V2) == 0);
    CHECK(refused(AF_KEY, SOCK_RAW, PF_KEY_V2, owner) == 0);
    CHECK(refused(AF_KEY, SOCK_RAW, PF_KEY_V2, user) == EPERM);
    CHECK(refused(AF_KEY, SOCK_DGRAM, PF_KEY_V2) == ESOCKTNOSUPPORT);
    CHECK(refused(AF_KEY, SOCK_RAW, 0) == EPROTONOSUPPORT);
}

TEST_CASE("an unknown id is EBADF everywhere")
{
    SocketsFixture f;
    std::array<std::uint8_t, 8> room{};
    CHECK(f.bind(77, at("10.0.0.1", 1)) == EBADF);
    CHECK(f.connect(77, at("10.0.0.1", 1)) == EBADF);
    CHECK(f.listen(77) == EBADF);
    CHECK(f.sockets.accept(77).error() == EBADF);
    CHECK(f.sockets.shutdown(77, SHUT_WR).error() == EBADF);
    CHECK(f.sockets.local(77).error() == EBADF);
    CHECK(f.sockets.remote(77).error() == EBADF);
    CHECK(f.sockets.read(77, room).error() == EBADF);
    CHECK(f.sockets.write(77, room).error() == EBADF);
    CHECK(f.send(77, {}, room) == EBADF);
    CHECK(f.sockets.key_send(77, room, true, {}).error() == EBADF);
    CHECK(f.set(77, SOL_SOCKET, SO_REUSEADDR, 1) == EBADF);
    CHECK(f.option(77, SOL_SOCKET, SO_TYPE) == -EBADF);
    f.sockets.close(77);
}

TEST_CASE("limit on sockets: ENFILE, and a place is free again after close")
{
    SocketsFixture f({.sockets = 3});
    std::vector<SocketId> ids;
    for (int i = 0; i < 3; ++i)
        ids.push_back(f.open(AF_INET, SOCK_DGRAM));
    CHECK(f.sockets.open(AF_INET, SOCK_DGRAM, 0, root).error() == ENFILE);
    CHECK(f.sockets.counters().refused == 1);
    f.sockets.close(ids[1]);
    CHECK(f.sockets.open(AF_INET6, SOCK_STREAM, 0, root).has_value());
}

TEST_CASE("bind: addresses, families, privilege, conflicts")
{
    SocketsFixture f;
    const auto fresh = [&](int domain, int type = SOCK_DGRAM, Credentials by = root) {
        return f.open(domain, type, 0, by);
    };
    for (const int type : {SOCK_DGRAM, SOCK_STREAM}) {
        CHECK(f.bind(fresh(AF_INET, type), at("10.0.0.9", 5000)) == EADDRNOTAVAIL);
        CHECK(f.bind(fresh(AF_INET6, type), at("fd00::9", 5000)) == EADDRNOTAVAIL);
        CHECK(f.bind(fresh(AF_INET, type), at("fd00::1", 5000)) == EAFNOSUPPORT);
        CHECK(f.bind(fresh(AF_INET6, type), at("10.0.0.1", 5000)) == EAFNOSUPPORT);
        CHECK(f.bind(fresh(AF_INET6, type), at("fe80::1", 5000)) == EINVAL);   // a zone is missing
        CHECK(f.bind(fresh(AF_INET, type, user), at("10.0.0.1", 80)) == EACCES);
        CHECK(f.bind(fresh(AF_INET, type, owner), at("10.0.0.1", 81)) == 0);
        const auto one = fresh(AF_INET, type), two = fresh(AF_INET, type);
        CHECK(f.bind(one, at("10.0.0.1", 5001)) == 0);
        CHECK(f.bind(one, at("10.0.0.1", 5002)) == EINVAL);
        CHECK(f.bind(two, at("10.0.0.1", 5001)) == EADDRINUSE);
        CHECK(f.bind(two, at("0.0.0.0", 5001)) == EADDRINUSE);
        CHECK(f.bind(two, at("127.0.0.1", 5001)) == 0);
        CHECK(f.bind(fresh(AF_INET6, type), at("::", 5001)) == EADDRINUSE);          // takes IPv4 as well
        const auto only6 = fresh(AF_INET6, type);
        CHECK(f.set(only6, IPPROTO_IPV6, IPV6_V6ONLY, 1) == 0);
        CHECK(f.bind(only6, at("::", 5001)) == 0);
        CHECK(f.set(only6, IPPROTO_IPV6, IPV6_V6ONLY, 0) == EINVAL);                  // too late
        CHECK(f.bind(fresh(AF_INET6, type), at("::ffff:10.0.0.1", 5001)) == EADDRINUSE);
        const auto mapped = fresh(AF_INET6, type);
        CHECK(f.bind(mapped, at("::ffff:10.0.0.1", 5003)) == 0);
        CHECK(f.sockets.local(mapped)->text() == "[::ffff:10.0.0.1]:5003");
        const auto any = fresh(AF_INET, type);
        CHECK(f.bind(any, at("0.0.0.0", 0)) == 0);
        CHECK(f.sockets.local(any)->port != 0);
    }
}

TEST_CASE("SO_REUSEADDR: both must say so, and a listener is exclusive")
{
    SocketsFixture f;
    const auto one = f.open(AF_INET, SOCK_DGRAM), two = f.open(AF_INET, SOCK_DGRAM);
    CHECK(f.set(two, SOL_SOCKET, SO_REUSEADDR, 1) == 0);
    CHECK(f.bind(one, at("10.0.0.1", 6000)) == 0);
    CHECK(f.bind(two, at("10.0.0.1", 6000)) == EADDRINUSE);
    CHECK(f.set(one, SOL_SOCKET, SO_REUSEADDR, 1) == 0);
    CHECK(f.bind(two, at("10.0.0.1", 6000)) == 0);

    const auto a = f.open(AF_INET, SOCK_STREAM), b = f.open(AF_INET, SOCK_STREAM), c = f.open(AF_INET, SOCK_STREAM);
    for (const auto id : {a, b, c})
        CHECK(f.set(id, SOL_SOCKET, SO_REUSEADDR, 1) == 0);
    CHECK(f.bind(a, at("10.0.0.1", 6000)) == 0);
    CHECK(f.bind(b, at("10.0.0.1", 6000)) == 0);
    CHECK(f.listen(a) == 0);
    CHECK(f.listen(b) == EADDRINUSE);
    CHECK(f.bind(c, at("0.0.0.0", 6000)) == EADDRINUSE);
    f.sockets.close(a);
    CHECK(f.listen(b) == 0);
}

TEST_CASE("UDP: every interesting size, exact bytes, the sender's address")
{
    SocketsFixture f;
    const auto a = f.open(AF_INET, SOCK_DGRAM), b = f.open(AF_INET, SOCK_DGRAM);
    REQUIRE(f.set(b, IPPROTO_IP, IP_TTL, 33) == 0);
    REQUIRE(f.set(b, IPPROTO_IP, IP_TOS, 0xb8) == 0);
    REQUIRE(f.bind(a, at("10.0.0.1", 5000)) == 0);
    std::vector<std::uint8_t> data(65535);
    std::iota(data.begin(), data.end(), std::uint8_t{1});
    for (const std::size_t size : {0u, 1u, 7u, 1471u, 1472u, 1473u, 2999u, 4096u, 9000u, 32768u, 65506u, 65507u}) {
        CAPTURE(size);
        REQUIRE(f.send(b, at("10.0.0.1", 5000), Bytes(data).first(size)) == 0);
        f.lo.pump();
        DatagramView view;
        REQUIRE(f.sockets.front_datagram(a, view));
        CHECK(view.size() == size);
        CHECK(view.header.ttl == 33);
        CHECK(view.header.tos == 0xb8);
        CHECK(view.header.remote == at("10.0.0.1", f.sockets.local(b)->port));
        CHECK(f.datagram(a) == std::string(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(size)));
    }
    const auto sent = f.lo.packets;
    CHECK(f.send(b, at("10.0.0.1", 5000), Bytes(data).first(65508)) == EMSGSIZE);
    CHECK(f.send(b, at("10.0.0.1", 5000), data) == EMSGSIZE);
    const auto six = f.open(AF_INET6, SOCK_DGRAM);
    CHECK(f.send(six, at("fd00::1", 5000), Bytes(data).first(65488)) == EMSGSIZE);
    CHECK(f.lo.packets == sent);   // nothing on the wire
    CHECK(f.send(six, at("fd00::1", 5000), Bytes(data).first(65487)) == 0);
}

TEST_CASE("UDP: why a datagram was not sent")
{
    SocketsFixture f;
    const auto s = f.open(AF_INET, SOCK_DGRAM);
    CHECK(f.send(s, {}, text("x")) == EDESTADDRREQ);
    CHECK(f.send(s, at("10.0.0.1", 0), text("x")) == EINVAL);
    CHECK(f.send(s, at("fd00::1", 9), text("x")) == EAFNOSUPPORT);
    CHECK(f.send(s, at("192.0.2.1", 9), text("x")) == ENETUNREACH);
    CHECK(f.send(s, at("10.0.0.255", 9), text("x")) == EACCES);
    CHECK(f.set(s, SOL_SOCKET, SO_BROADCAST, 1) == 0);
    CHECK(f.send(s, at("10.0.0.255", 9), text("x")) == 0);

    auto drop = Drop::none;
    f.sockets.last_drop = [&] { return drop; };
    f.lo.output_error = -11;   // ERR_CONN: the choke layer refuses
    const std::pair<Drop, int> table[] = {
        {Drop::out_too_big, EMSGSIZE}, {Drop::out_discard, EPERM},         {Drop::out_hold_full, ENOBUFS},
        {Drop::out_no_sa, 0},          {Drop::out_no_route, ENETUNREACH}, {Drop::out_no_buffer, ENOBUFS},
        {Drop::out_crypto, EIO}};
    for (const auto& [why, errno_value] : table) {
        CAPTURE(drop_row(why).name);
        drop = why;
        CHECK(f.send(s, at("10.0.0.1", 9), text("x")) == errno_value);
        CHECK(f.send(s, at("10.0.0.7", 9), text("x")) == errno_value);
    }
}

TEST_CASE("UDP: connect filters, names the local address, dissolves")
{
    SocketsFixture f;
    const auto a = f.open(AF_INET, SOCK_DGRAM), b = f.open(AF_INET, SOCK_DGRAM), c = f.open(AF_INET, SOCK_DGRAM);
    REQUIRE(f.bind(a, at("0.0.0.0", 5000)) == 0);
    REQUIRE(f.bind(b, at("10.0.0.1", 5001)) == 0);
    REQUIRE(f.bind(c, at("10.0.0.1", 5002)) == 0);
    CHECK(f.sockets.remote(a).error() == ENOTCONN);
    CHECK(f.connect(a, at("192.0.2.1", 5)) == ENETUNREACH);
    CHECK(f.connect(a, at("10.0.0.1", 5001)) == 0);
    CHECK(f.sockets.local(a)->text() == "10.0.0.1:5000");
    CHECK(f.sockets.remote(a)->text() == "10.0.0.1:5001");
    CHECK(f.send(b, at("10.0.0.1", 5000), text("from b")) == 0);
    CHECK(f.send(c, at("10.0.0.1", 5000), text("from c")) == 0);
    CHECK(f.send(a, {}, text("to b")) == 0);
    CHECK(f.send(a, at("10.0.0.1", 5002), text("to c")) == 0);
    f.lo.pump();
    CHECK(f.datagram(a) == "from b");
    CHECK(f.datagram(a) == "(none)");
    CHECK(f.datagram(b) == "to b");
    CHECK(f.datagram(c) == "to c");
    CHECK(f.connect(a, {}) == 0);
    CHECK(f.sockets.remote(a).error() == ENOTCONN);
    CHECK(f.sockets.local(a)->text() == "0.0.0.0:5000");
    CHECK(f.send(a, {}, text("x")) == EDESTADDRREQ);
    const auto d = f.open(AF_INET, SOCK_DGRAM);
    CHECK(f.send(d, at("127.0.0.1", 5000), text("by another address")) == 0);
    f.lo.pump();
    CHECK(f.datagram(a) == "by another address");
}

TEST_CASE("UDP: a closed port answers a connected socket with ECONNREFUSED, an unconnected one not at all")
{
    SocketsFixture f;
    for (const char* host : {"10.0.0.1", "fd00::1"}) {
        CAPTURE(host);
        const int domain = Address::parse(host)->is_v4() ? AF_INET : AF_INET6;
        const auto loose = f.open(domain, SOCK_DGRAM), tied = f.open(domain, SOCK_DGRAM);
        CHECK(f.connect(tied, at(host, 4999)) == 0);
        CHECK(f.send(loose, at(host, 4999), text("x")) == 0);
        CHECK(f.send(tied, {}, text("x")) == 0);
        f.lo.pump();
        CHECK(f.option(loose, SOL_SOCKET, SO_ERROR) == 0);
        CHECK((f.events[tied] & socket_event::failed) != 0);
        CHECK(f.option(tied, SOL_SOCKET, SO_ERROR) == ECONNREFUSED);
        CHECK(f.option(tied, SOL_SOCKET, SO_ERROR) == 0);   // told once
    }
}

TEST_CASE("UDP: the receive buffer is a limit; what does not fit is counted and dropped")
{
    SocketsFixture f;
    const auto a = f.open(AF_INET, SOCK_DGRAM), b = f.open(AF_INET, SOCK_DGRAM);
    REQUIRE(f.set(a, SOL_SOCKET, SO_RCVBUF, 4096) == 0);
    CHECK(f.option(a, SOL_SOCKET, SO_RCVBUF) == 8192);
    REQUIRE(f.bind(a, at("10.0.0.1", 5000)) == 0);
    const std::vector<std::uint8_t> data(1000, 'x');
    for (int i = 0; i < 50; ++i) {
        REQUIRE(f.send(b, at("10.0.0.1", 5000), data) == 0);
        f.lo.pump();
    }
    int got = 0;
    while (f.datagram(a) != "(none)")
        ++got;
    CHECK(got == 7);
    CHECK(f.sockets.counters().datagrams_dropped == 43);
    REQUIRE(f.send(b, at("10.0.0.1", 5000), data) == 0);
    f.lo.pump();
    CHECK(f.datagram(a).size() == 1000);
}

TEST_CASE("UDP: one IPv6 socket takes both families, IPV6_V6ONLY only one")
{
    SocketsFixture f;
    const auto dual = f.open(AF_INET6, SOCK_DGRAM), four = f.open(AF_INET, SOCK_DGRAM),
               six = f.open(AF_INET6, SOCK_DGRAM);
    REQUIRE(f.bind(dual, at("::", 5000)) == 0);
    REQUIRE(f.bind(four, at("10.0.0.1", 5004)) == 0);
    REQUIRE(f.bind(six, at("fd00::1", 5006)) == 0);
    CHECK(f.send(four, at("10.0.0.1", 5000), text("4")) == 0);
    CHECK(f.send(six, at("fd00::1", 5000), text("6")) == 0);
    f.lo.pump();
    Endpoint from;
    CHECK(f.datagram(dual, &from) == "4");
    CHECK(from.text() == "[::ffff:10.0.0.1]:5004");
    CHECK(f.datagram(dual, &from) == "6");
    CHECK(from.text() == "[fd00::1]:5006");
    CHECK(f.send(dual, at("::ffff:10.0.0.1", 5004), text("back")) == 0);
    CHECK(f.send(dual, at("::", 5006), text("lost")) == 0);            // unspecified is loopback, where nobody listens
    f.lo.pump();
    CHECK(f.datagram(four, &from) == "back");
    CHECK(from.text() == "10.0.0.1:5000");

    f.sockets.close(dual);
    const auto only = f.open(AF_INET6, SOCK_DGRAM);
    REQUIRE(f.set(only, IPPROTO_IPV6, IPV6_V6ONLY, 1) == 0);
    REQUIRE(f.bind(only, at("::", 5000)) == 0);
    CHECK(f.send(only, at("::ffff:10.0.0.1", 5004), text("x")) == ENETUNREACH);
    CHECK(f.send(four, at("10.0.0.1", 5000), text("4")) == 0);
    f.lo.pump();
    CHECK(f.datagram(only) == "(none)");
}

TEST_CASE("UDP: ephemeral ports run out with EAGAIN, not with a crash")
{
    SocketsFixture f({.sockets = 8000});
    // lwIP has 4096 UDP PCBs; the socket that finds none says so.
    int error = 0;
    std::size_t made = 0;
    for (; error == 0 && made < 5000; ++made) {
        const auto id = f.open(AF_INET, SOCK_DGRAM);
        error = f.bind(id, at("0.0.0.0", 0));
    }
    CHECK((error == ENOBUFS || error == EAGAIN));
    CHECK(made > 4000);
}

TEST_CASE("UDP: shutdown")
{
    SocketsFixture f;
    const auto a = f.open(AF_INET, SOCK_DGRAM);
    CHECK(f.sockets.shutdown(a, SHUT_WR).error() == ENOTCONN);
    CHECK(f.connect(a, at("10.0.0.1", 5000)) == 0);
    CHECK(f.sockets.shutdown(a, 7).error() == EINVAL);
    CHECK(f.sockets.shutdown(a, SHUT_WR).has_value());
    CHECK(f.send(a, {}, text("x")) == EPIPE);
}

TEST_CASE("UDP: multicast groups are joined once, left at close")
{
    SocketsFixture f;
    const auto a = f.open(AF_INET, SOCK_DGRAM);
    const ip_mreq group{{inet_addr("224.1.2.3")}, {inet_addr("10.0.0.1")}};
    std::array<std::uint8_t, sizeof group> raw;
    std::memcpy(raw.data(), &group, sizeof group);
    CHECK(f.sockets.set_option(a, IPPROTO_IP, IP_DROP_MEMBERSHIP, raw).error() == EADDRNOTAVAIL);
    CHECK(f.sockets.set_option(a, IPPROTO_IP, IP_ADD_MEMBERSHIP, raw).has_value());
    CHECK(f.sockets.set_option(a, IPPROTO_IP, IP_ADD_MEMBERSHIP, raw).error() == EADDRINUSE);
    CHECK(f.sockets.set_option(a, IPPROTO_IP, IP_ADD_MEMBERSHIP, Bytes(raw).first(4)).error() == EINVAL);
    const auto used = lwip_stats.memp[MEMP_IGMP_GROUP]->used;
    f.sockets.close(a);
    CHECK(lwip_stats.memp[MEMP_IGMP_GROUP]->used == used - 1);
    const auto six = f.open(AF_INET6, SOCK_DGRAM);
    ipv6_mreq group6{};
    group6.ipv6mr_multiaddr.s6_addr[0] = 0xff;
    group6.ipv6mr_multiaddr.s6_addr[1] = 0x05;
    group6.ipv6mr_multiaddr.s6_addr[15] = 0x77;
    group6.ipv6mr_interface = 2;
    std::array<std::uint8_t, sizeof group6> raw6;
    std::memcpy(raw6.data(), &group6, sizeof group6);
    CHECK(f.sockets.set_option(six, IPPROTO_IPV6, IPV6_JOIN_GROUP, raw6).has_value());
    CHECK(f.sockets.set_option(six, IPPROTO_IPV6, IPV6_LEAVE_GROUP, raw6).has_value());
    group6.ipv6mr_interface = 99;
    std::memcpy(raw6.data(), &group6, sizeof group6);
    CHECK(f.sockets.set_option(six, IPPROTO_IPV6, IPV6_JOIN_GROUP, raw6).error() == ENODEV);
}

TEST_CASE("ping: requests leave with the socket's identifier, the reply comes back to it alone")
{
    SocketsFixture f;
    struct Row {
        int domain, protocol;
        const char* host;
        std::uint8_t request, reply;
    };
    for (const auto& [domain, protocol, host, request, reply] :
         {Row{AF_INET, IPPROTO_ICMP, "10.0.0.1", 8, 0}, Row{AF_INET6, IPPROTO_ICMPV6, "fd00::1", 128, 129}}) {
        CAPTURE(host);
        const auto a = f.open(domain, SOCK_DGRAM, protocol, user), b = f.open(domain, SOCK_DGRAM, protocol);
        const auto c = f.open(domain, SOCK_DGRAM, protocol);
        REQUIRE(f.bind(b, at(host, 0x1234)) == 0);   // "ports" below 1024 need no privilege here either
        CHECK(f.bind(c, at(host, 0x1234)) == EADDRINUSE);
        std::vector<std::uint8_t> ping{request, 0, 0xaa, 0xbb, 0x55, 0x55, 0, 7, 'p', 'a', 'y'};
        CHECK(f.send(a, {}, ping) == EDESTADDRREQ);
        CHECK(f.send(a, at(host, 0), Bytes(ping).first(7)) == EINVAL);
        CHECK(f.send(a, at(host, 0), std::vector<std::uint8_t>(65530, request)) == EMSGSIZE);
        ping[1] = 1;
        CHECK(f.send(a, at(host, 0), ping) == EINVAL);
        ping[1] = 0;
        CHECK(f.send(a, at(host, 0), ping) == 0);
        CHECK(f.send(b, at(host, 0), ping) == 0);
        f.lo.pump();
        DatagramView view;
        REQUIRE(f.sockets.front_datagram(b, view));
        CHECK(view.header.remote.address == *Address::parse(host));
        const auto got = f.datagram(b);
        REQUIRE(got.size() == ping.size());
        CHECK(static_cast<std::uint8_t>(got[0]) == reply);
        CHECK(got.substr(4) == std::string("\x12\x34\0\x07pay", 7));
        CHECK(f.datagram(b) == "(none)");
        CHECK(f.datagram(a).substr(6) == std::string("\0\x07pay", 5));
        CHECK(f.datagram(c) == "(none)");

        ping[0] = reply;   // only requests may be sent
        CHECK(f.send(a, at(host, 0), ping) == EINVAL);
        ping[0] = request;
        CHECK(f.connect(b, at(host, 0)) == 0);
        CHECK(f.send(b, {}, ping) == 0);
        f.lo.pump();
        CHECK(f.datagram(b).size() == ping.size());
        std::vector<std::uint8_t> large(domain == AF_INET ? 65515 : 65495);
        large[0] = request;
        CHECK(f.send(b, {}, large) == 0);
        f.lo.pump();
        CHECK(f.datagram(b).size() == large.size());
    }
}

TEST_CASE("options: values, defaults, ranges, and the kinds of socket that have them")
{
    SocketsFixture f;
    const auto t = f.open(AF_INET, SOCK_STREAM), t6 = f.open(AF_INET6, SOCK_STREAM), u = f.open(AF_INET, SOCK_DGRAM);
    const auto k = f.open(AF_KEY, SOCK_RAW, PF_KEY_V2);
    CHECK(f.option(t, SOL_SOCKET, SO_TYPE) == SOCK_STREAM);
    CHECK(f.option(t6, SOL_SOCKET, SO_DOMAIN) == AF_INET6);
    CHECK(f.option(u, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_UDP);
    CHECK(f.option(k, SOL_SOCKET, SO_DOMAIN) == AF_KEY);
    CHECK(f.option(t, SOL_SOCKET, SO_RCVBUF) == 212992);
    CHECK(f.set(t, SOL_SOCKET, SO_SNDBUF, 1) == 0);
    CHECK(f.option(t, SOL_SOCKET, SO_SNDBUF) == 2304);
    CHECK(f.set(t, SOL_SOCKET, SO_SNDBUF, 0x7fffffff) == 0);
    CHECK(f.option(t, SOL_SOCKET, SO_SNDBUF) == 4 * 1024 * 1024);
    CHECK(f.set(t, IPPROTO_TCP, tcp_nodelay, 5) == 0);
    CHECK(f.option(t, IPPROTO_TCP, tcp_nodelay) == 1);
    CHECK(f.option(t, IPPROTO_TCP, tcp_maxseg) == 536);
    CHECK(f.set(t, IPPROTO_TCP, tcp_maxseg, 500) == ENOPROTOOPT);
    CHECK(f.set(u, IPPROTO_TCP, tcp_nodelay, 1) == ENOPROTOOPT);
    CHECK(f.option(t, IPPROTO_IP, IP_TTL) == 64);
    CHECK(f.set(t, IPPROTO_IP, IP_TTL, 0) == EINVAL);
    CHECK(f.set(t, IPPROTO_IP, IP_TTL, 256) == EINVAL);
    CHECK(f.set(t, IPPROTO_IP, IP_TTL, 7) == 0);
    CHECK(f.option(t, IPPROTO_IP, IP_TTL) == 7);
    CHECK(f.set(t, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 7) == ENOPROTOOPT);
    CHECK(f.set(t6, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 7) == 0);
    CHECK(f.set(t6, IPPROTO_IPV6, IPV6_UNICAST_HOPS, -1) == 0);
    CHECK(f.option(t6, IPPROTO_IPV6, IPV6_UNICAST_HOPS) == 64);
    CHECK(f.set(t, SOL_SOCKET, 12345, 1) == ENOPROTOOPT);
    CHECK(f.option(t, 12345, 1) == -ENOPROTOOPT);
    CHECK(f.set(t, SOL_SOCKET, SO_ERROR, 1) == ENOPROTOOPT);
    CHECK(f.set(k, SOL_SOCKET, SO_REUSEADDR, 1) == ENOPROTOOPT);
    CHECK(f.sockets.set_option(t, SOL_SOCKET, SO_REUSEADDR, {}).error() == EINVAL);
    const std::array<std::uint8_t, 1> byte{9};
    CHECK(f.sockets.set_option(t, IPPROTO_IP, IP_TTL, byte).has_value());
    CHECK(f.option(t, IPPROTO_IP, IP_TTL) == 9);
    std::array<std::uint8_t, 2> little{};
    CHECK(f.sockets.get_option(t, IPPROTO_IP, IP_TTL, little) == 2);   // cut, as the kernel does

    const auto p = f.connected("10.0.0.1", 7005);
    CHECK(f.option(p.client, IPPROTO_TCP, tcp_maxseg) == 1448);   // 12 bytes of each segment are timestamps
}

TEST_CASE("key sockets: malformed is EINVAL with nothing queued, answers come as records and as an event")
{
    SocketsFixture f;
    const auto k = f.open(AF_KEY, SOCK_RAW, PF_KEY_V2, owner);
    CHECK(f.sockets.key_send(k, text("short"), true, {}).error() == EINVAL);
    CHECK(f.sockets.key_front(k).empty());
    CHECK(f.send(k, at("10.0.0.1", 1), text("x")) == EOPNOTSUPP);
    std::array<std::uint8_t, 16> dump{2, SADB_FLUSH, 0, SADB_SATYPE_ESP, 2, 0, 0, 0, 9, 0, 0, 0, 77, 0, 0, 0};
    CHECK(f.sockets.key_send(k, dump, true, {}).has_value());
    CHECK((f.events[k] & socket_event::readable) != 0);
    const auto reply = f.sockets.key_front(k);
    REQUIRE(reply.size() == 16);
    CHECK(reply[1] == SADB_FLUSH);
    CHECK(reply[8] == 9);    // the sequence number and the process id come back
    CHECK(reply[12] == 77);
    f.sockets.key_pop(k, {});
    CHECK(f.sockets.key_front(k).empty());
    const auto u = f.open(AF_INET, SOCK_DGRAM);
    CHECK(f.sockets.key_send(u, dump, true, {}).error() == EOPNOTSUPP);
}

TEST_CASE("after everything is closed lwIP holds no buffers, PCBs or timers of ours")
{
    auto& lo = test::Loopback::instance();
    lo.advance(200s);   // every TIME_WAIT of the cases above is over
    for (const int pool :
         {MEMP_TCP_PCB, MEMP_TCP_PCB_LISTEN, MEMP_UDP_PCB, MEMP_RAW_PCB, MEMP_TCP_SEG, MEMP_PBUF_POOL}) {
        CAPTURE(pool);
        CHECK(lwip_stats.memp[pool]->used == 0);
    }
}
