// SPDX-License-Identifier: BSD-2-Clause
// TCP sockets over a real lwIP that talks to itself through its loopback; the socket index.
#include "tests/stack/sockets_fixture.hpp"

#include <set>

using namespace latchkey;
using namespace latchkey::test;
using namespace std::chrono_literals;

TEST_CASE("TCP: connect, names, both ways, half close, end")
{
    SocketsFixture f;
    for (const char* host : {"10.0.0.1", "fd00::1"}) {
        CAPTURE(host);
        const auto p = f.connected(host);
        CHECK(*f.sockets.remote(p.client) == at(host, 7000));
        CHECK(*f.sockets.local(p.server) == at(host, 7000));
        CHECK(*f.sockets.remote(p.server) == *f.sockets.local(p.client));
        CHECK(f.connect(p.client, at(host, 7000)) == EISCONN);
        CHECK(f.connect(p.listener, at(host, 7000)) == EISCONN);
        CHECK(f.read(p.client) == "error " + std::to_string(EAGAIN));

        CHECK(f.sockets.write(p.client, text("hello")) == 5);
        f.lo.pump();
        CHECK((f.events[p.server] & socket_event::readable) != 0);
        CHECK(f.read(p.server, 3) == "hel");
        CHECK(f.read(p.server) == "lo");
        CHECK(f.sockets.write(p.server, text("world")) == 5);
        f.lo.pump();
        CHECK(f.read(p.client) == "world");

        REQUIRE(f.sockets.shutdown(p.client, SHUT_WR).has_value());
        CHECK(f.sockets.write(p.client, text("x")).error() == EPIPE);
        f.lo.pump();
        CHECK(f.sockets.finished(p.server));
        CHECK(f.read(p.server) == "");
        CHECK(f.sockets.write(p.server, text("still")) == 5);   // the other half is open
        f.lo.pump();
        CHECK(f.read(p.client) == "still");
        f.sockets.close(p.server);
        f.lo.pump();
        CHECK(f.read(p.client) == "");
        f.sockets.close(p.client);
        f.sockets.close(p.listener);
        f.lo.pump();
    }
}

TEST_CASE("TCP: megabytes both ways at once, with a slow reader, nothing lost and nothing hoarded")
{
    SocketsFixture f;
    const auto p = f.connected();
    constexpr std::size_t total = 3'000'000;
    std::vector<std::uint8_t> data(total);
    for (std::size_t i = 0; i < total; ++i)
        data[i] = static_cast<std::uint8_t>((i * 2654435761u) >> 13);
    struct Side {
        SocketId id;
        std::size_t sent = 0, checked = 0;
        bool blocked = false;
    };
    std::array<Side, 2> sides{Side{p.client}, Side{p.server}};
    std::size_t most_queued = 0, refusals = 0;
    for (int round = 0; round < 20000 && (sides[0].checked < total || sides[1].checked < total); ++round) {
        for (auto& side : sides) {
            if (side.blocked && (f.events[side.id] & socket_event::writable) != 0)
                side.blocked = false;
            if (!side.blocked && side.sent < total) {
                f.events[side.id] &= ~socket_event::writable;
                const auto n = f.sockets.write(side.id, Bytes(data).subspan(side.sent));
                if (n)
                    side.sent += *n;
                side.blocked = side.sent < total;
                refusals += n ? 0 : 1;
            }
        }
        f.lo.pump();
        for (auto& side : sides) {
            const auto queued = f.sockets.peek(side.id);
            most_queued = std::max(most_queued, queued[0].size() + queued[1].size());
            if (round % 3 != 0)
                continue;   // slow
            std::vector<std::uint8_t> room(20'000);
            if (const auto n = f.sockets.read(side.id, room)) {
                REQUIRE(std::equal(room.begin(), room.begin() + static_cast<std::ptrdiff_t>(*n),
                                   data.begin() + static_cast<std::ptrdiff_t>(side.checked)));
                side.checked += *n;
            }
        }
        if (round % 16 == 15)
            f.lo.advance(50ms);
    }
    CHECK(sides[0].checked == total);
    CHECK(sides[1].checked == total);
    CHECK(most_queued <= 256 * 1024);
    CHECK(most_queued > 100 * 1024);   // the window was really used up
}

TEST_CASE("TCP: data arrives whole over a lossy path")
{
    SocketsFixture f;
    const auto p = f.connected();
    unsigned n = 0;
    f.lo.lose = [&](const pbuf*) { return ++n % 23 == 0; };
    std::vector<std::uint8_t> data(400'000);
    for (std::size_t i = 0; i < data.size(); ++i)
        data[i] = static_cast<std::uint8_t>(i ^ (i >> 8));
    std::size_t sent = 0;
    std::vector<std::uint8_t> got, room(65536);
    for (int round = 0; round < 20000 && got.size() < data.size(); ++round) {
        if (const auto w = f.sockets.write(p.client, Bytes(data).subspan(sent)); w)
            sent += *w;
        f.lo.advance(50ms);
        if (const auto r = f.sockets.read(p.server, room); r)
            got.insert(got.end(), room.begin(), room.begin() + static_cast<std::ptrdiff_t>(*r));
    }
    CHECK(n > 300);
    CHECK(got == data);
}

TEST_CASE("TCP: refused, unreachable, timed out")
{
    SocketsFixture f;
    auto c = f.open(AF_INET, SOCK_STREAM);
    CHECK(f.sockets.remote(c).error() == ENOTCONN);
    CHECK(f.sockets.write(c, text("x")).error() == ENOTCONN);
    CHECK(f.read(c) == "error " + std::to_string(ENOTCONN));
    CHECK(f.connect(c, at("192.0.2.1", 7)) == ENETUNREACH);
    CHECK(f.connect(c, at("224.0.0.9", 7)) == ENETUNREACH);
    CHECK(f.connect(c, at("fd00::1", 7)) == EAFNOSUPPORT);
    CHECK(f.connect(c, at("10.0.0.1", 6999)) == EINPROGRESS);
    CHECK(f.connect(c, at("10.0.0.1", 6999)) == EALREADY);
    f.lo.pump();
    CHECK((f.events[c] & socket_event::failed) != 0);
    CHECK((f.events[c] & socket_event::connected) == 0);
    CHECK(f.option(c, SOL_SOCKET, SO_ERROR) == ECONNREFUSED);
    CHECK(f.option(c, SOL_SOCKET, SO_ERROR) == 0);
    CHECK(f.sockets.remote(c).error() == ENOTCONN);

    const auto l = f.listener(at("10.0.0.1", 6999));   // the same socket may try again
    CHECK(f.connect(c, at("10.0.0.1", 6999)) == EINPROGRESS);
    f.lo.pump();
    CHECK((f.events[c] & socket_event::connected) != 0);
    f.sockets.close(l);

    c = f.open(AF_INET, SOCK_STREAM);
    CHECK(f.connect(c, at("10.0.0.77", 7)) == EINPROGRESS);   // nobody answers
    f.lo.advance(15s);
    CHECK((f.events[c] & socket_event::failed) == 0);
    f.lo.advance(60s);
    CHECK(f.option(c, SOL_SOCKET, SO_ERROR) == ETIMEDOUT);
}

TEST_CASE("TCP: a bound client keeps its port over a failed attempt")
{
    SocketsFixture f;
    const auto c = f.open(AF_INET, SOCK_STREAM);
    REQUIRE(f.bind(c, at("10.0.0.1", 7500)) == 0);
    CHECK(f.connect(c, at("10.0.0.1", 6998)) == EINPROGRESS);
    f.lo.pump();
    CHECK(f.option(c, SOL_SOCKET, SO_ERROR) == ECONNREFUSED);
    const auto l = f.listener(at("10.0.0.1", 6998));
    CHECK(f.connect(c, at("10.0.0.1", 6998)) == EINPROGRESS);
    f.lo.pump();
    const auto s = f.sockets.accept(l);
    REQUIRE(s);
    CHECK(f.sockets.remote(*s)->text() == "10.0.0.1:7500");
}

TEST_CASE("TCP: closing with unread data resets the connection, data first for the peer")
{
    SocketsFixture f;
    const auto p = f.connected();
    CHECK(f.sockets.write(p.client, text("never read")) == 10);
    CHECK(f.sockets.write(p.server, text("last words")) == 10);
    f.lo.pump();
    f.sockets.close(p.server);
    f.lo.pump();
    CHECK((f.events[p.client] & socket_event::failed) != 0);
    CHECK(f.read(p.client) == "last words");
    CHECK(f.read(p.client) == "error " + std::to_string(ECONNRESET));
    CHECK(f.read(p.client) == "");
    CHECK(f.sockets.write(p.client, text("x")).error() == EPIPE);
}

TEST_CASE("TCP: SO_LINGER of 0 seconds is a reset as well")
{
    SocketsFixture f;
    const auto p = f.connected();
    const linger l{1, 0};
    std::array<std::uint8_t, sizeof l> raw;
    std::memcpy(raw.data(), &l, sizeof l);
    REQUIRE(f.sockets.set_option(p.client, SOL_SOCKET, SO_LINGER, raw).has_value());
    f.sockets.close(p.client);
    f.lo.pump();
    CHECK(f.option(p.server, SOL_SOCKET, SO_ERROR) == ECONNRESET);
}

TEST_CASE("TCP: close sends what is queued, in the background, and the id is released at the end of TIME_WAIT")
{
    SocketsFixture f;
    const auto p = f.connected();
    const std::vector<std::uint8_t> data(200'000, 'z');
    const auto queued = f.sockets.write(p.client, data);
    REQUIRE(queued);
    f.sockets.close(p.client);
    CHECK(f.sockets.write(p.client, data).error() == EBADF);
    std::size_t got = 0;
    for (int i = 0; i < 200 && !f.sockets.finished(p.server); ++i) {
        f.lo.advance(50ms);
        got += f.read(p.server).size();
    }
    CHECK(got == *queued);
    f.sockets.close(p.server);
    f.lo.pump();
    CHECK((f.events[p.client] & socket_event::released) == 0);   // TIME_WAIT
    CHECK((f.events[p.server] & socket_event::released) != 0);   // LAST_ACK is over at once
    f.lo.advance(30s);
    CHECK((f.events[p.client] & socket_event::released) == 0);
    f.lo.advance(40s);
    CHECK((f.events[p.client] & socket_event::released) != 0);
}

TEST_CASE("TCP: the backlog holds connections back, close() of a listener resets those that wait")
{
    SocketsFixture f;
    const auto l = f.listener(at("10.0.0.1", 7001), 2);
    std::vector<SocketId> clients;
    for (int i = 0; i < 4; ++i) {
        clients.push_back(f.open(AF_INET, SOCK_STREAM));
        CHECK(f.connect(clients.back(), at("10.0.0.1", 7001)) == EINPROGRESS);
        f.lo.pump();
    }
    const auto up = [&] {
        return std::count_if(clients.begin(), clients.end(),
                             [&](SocketId id) { return (f.events[id] & socket_event::connected) != 0; });
    };
    CHECK(up() == 2);
    REQUIRE(f.sockets.accept(l));
    f.lo.advance(4s);   // the SYN is sent again
    CHECK(up() == 3);
    f.sockets.close(l);
    f.lo.pump();
    f.lo.advance(4s);
    std::multiset<int> errors;
    for (const auto id : clients)
        errors.insert(f.option(id, SOL_SOCKET, SO_ERROR));
    // The accepted one lives on, the two that waited are reset, the last one finds nobody.
    CHECK(errors == std::multiset<int>{0, ECONNRESET, ECONNRESET, ECONNREFUSED});
}

TEST_CASE("TCP: accept and listen where they do not belong")
{
    SocketsFixture f;
    const auto s = f.open(AF_INET, SOCK_STREAM), u = f.open(AF_INET, SOCK_DGRAM);
    CHECK(f.sockets.accept(s).error() == EINVAL);
    CHECK(f.listen(u) == EOPNOTSUPP);
    CHECK(f.sockets.accept(u).error() == EOPNOTSUPP);
    CHECK(f.listen(s) == 0);   // binds itself
    CHECK(f.sockets.local(s)->port != 0);
    CHECK(f.sockets.accept(s).error() == EAGAIN);
    CHECK(f.option(s, SOL_SOCKET, SO_ACCEPTCONN) == 1);
    const auto p = f.connected();
    CHECK(f.listen(p.client) == EINVAL);
    CHECK(f.option(p.client, SOL_SOCKET, SO_ACCEPTCONN) == 0);
}

TEST_CASE("TCP: an IPv6 listener takes IPv4 connections under mapped addresses")
{
    SocketsFixture f;
    const auto l = f.listener(at("::", 7002));
    const auto c = f.open(AF_INET, SOCK_STREAM);
    CHECK(f.connect(c, at("10.0.0.1", 7002)) == EINPROGRESS);
    const auto d = f.open(AF_INET6, SOCK_STREAM);
    CHECK(f.connect(d, at("::ffff:10.0.0.1", 7002)) == EINPROGRESS);
    f.lo.pump();
    const auto s = f.sockets.accept(l), t = f.sockets.accept(l);
    REQUIRE(s);
    REQUIRE(t);
    CHECK(f.sockets.local(*s)->text() == "[::ffff:10.0.0.1]:7002");
    CHECK(f.sockets.remote(d)->text() == "[::ffff:10.0.0.1]:7002");
    CHECK(f.sockets.write(*t, text("hi")) == 2);
    f.lo.pump();
    CHECK(f.read(d) == "hi");
}

TEST_CASE("TCP: a port in TIME_WAIT can be had again with SO_REUSEADDR only")
{
    SocketsFixture f;
    const auto p = f.connected("10.0.0.1", 7003);
    f.sockets.close(p.server);   // the active closer waits
    f.lo.pump();
    f.sockets.close(p.client);
    f.sockets.close(p.listener);
    f.lo.pump();
    const auto plain = f.open(AF_INET, SOCK_STREAM), reuse = f.open(AF_INET, SOCK_STREAM);
    CHECK(f.bind(plain, at("10.0.0.1", 7003)) == EADDRINUSE);
    REQUIRE(f.set(reuse, SOL_SOCKET, SO_REUSEADDR, 1) == 0);
    CHECK(f.bind(reuse, at("10.0.0.1", 7003)) == 0);
}

TEST_CASE("TCP: connect(AF_UNSPEC) and shutdown of a listener")
{
    SocketsFixture f;
    const auto p = f.connected();
    CHECK(f.connect(p.client, {}) == 0);
    f.lo.pump();
    CHECK(f.option(p.server, SOL_SOCKET, SO_ERROR) == ECONNRESET);
    CHECK(f.connect(p.client, at("10.0.0.1", 7000)) == EINPROGRESS);
    f.lo.pump();
    CHECK(f.sockets.accept(p.listener).has_value());
    CHECK(f.sockets.shutdown(p.listener, SHUT_RD).has_value());
    CHECK(f.sockets.accept(p.listener).error() == EINVAL);
}

TEST_CASE("the index: which socket a packet belongs to, through a connection's whole life")
{
    SocketsFixture f;
    const auto flow = [](const Endpoint& from, const Endpoint& to, std::uint8_t protocol) {
        return Flow{from.address, to.address, from.port, to.port, protocol, true};
    };
    const auto stranger = at("10.0.0.9", 1234);
    const auto p = f.connected("10.0.0.1", 7004);
    const auto client = *f.sockets.local(p.client), server = at("10.0.0.1", 7004);
    CHECK(f.index.inbound(flow(client, server, ip_proto::tcp)) == p.server);
    CHECK(f.index.inbound(flow(server, client, ip_proto::tcp)) == p.client);
    CHECK(f.index.inbound(flow(stranger, server, ip_proto::tcp)) == p.listener);
    CHECK(f.index.inbound(flow(stranger, server, ip_proto::udp)) == 0);
    f.sockets.close(p.client);
    f.lo.pump();
    CHECK(f.index.inbound(flow(server, client, ip_proto::tcp)) == p.client);   // FIN_WAIT_2
    f.sockets.close(p.server);
    f.lo.pump();
    CHECK(f.index.inbound(flow(server, client, ip_proto::tcp)) == p.client);   // TIME_WAIT
    CHECK(f.index.inbound(flow(client, server, ip_proto::tcp)) == p.listener);
    f.lo.advance(70s);
    CHECK(f.index.inbound(flow(server, client, ip_proto::tcp)) == 0);
    f.sockets.close(p.listener);
    CHECK(f.index.inbound(flow(stranger, server, ip_proto::tcp)) == 0);

    const auto u = f.open(AF_INET6, SOCK_DGRAM);
    REQUIRE(f.bind(u, at("::", 5000)) == 0);
    CHECK(f.index.inbound(flow(stranger, at("10.0.0.1", 5000), ip_proto::udp)) == u);
    CHECK(f.index.inbound(flow(at("fd00::9", 1), at("fd00::1", 5000), ip_proto::udp)) == u);
    REQUIRE(f.connect(u, at("fd00::1", 53)) == 0);
    CHECK(f.index.inbound(flow(stranger, at("10.0.0.1", 5000), ip_proto::udp)) == 0);
    CHECK(f.index.inbound(flow(at("fd00::1", 53), at("fd00::1", 5000), ip_proto::udp)) == u);
    f.sockets.close(u);
    CHECK(f.index.inbound(flow(at("fd00::1", 53), at("fd00::1", 5000), ip_proto::udp)) == 0);
}

TEST_CASE("the send buffer of a stream limits what is taken")
{
    SocketsFixture f;
    const auto p = f.connected("10.0.0.1", 7006);
    REQUIRE(f.set(p.client, SOL_SOCKET, SO_SNDBUF, 4096) == 0);
    const std::vector<std::uint8_t> data(100'000, 's');
    CHECK(f.sockets.write(p.client, data).value_or(0) == 8192);
    CHECK(f.sockets.write(p.client, data).error() == EAGAIN);
    CHECK(f.sockets.writable_bytes(p.client) == 0);
    f.events[p.client] = 0;
    f.lo.advance(500ms);
    CHECK((f.events[p.client] & socket_event::writable) != 0);
    CHECK(f.sockets.write(p.client, data) == 8192);
}
