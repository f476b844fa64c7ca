// SPDX-License-Identifier: BSD-2-Clause
// TCP through the door: what a client sees on its stream descriptor.
#include "tests/stack/door_fixture.hpp"

#include <csignal>
#include <sys/wait.h>

using namespace latchkey;
using namespace latchkey::test;
using namespace std::chrono_literals;
using control::Op;

namespace {

std::string pattern(std::size_t size)
{
    std::string out(size, '\0');
    for (std::size_t i = 0; i < size; ++i)
        out[i] = static_cast<char>((i * 2654435761u) >> 11);
    return out;
}

// Writes what fits; returns how much.
std::size_t put(const Fd& fd, std::string_view data)
{
    const auto n = ::send(fd.get(), data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return n > 0 ? static_cast<std::size_t>(n) : 0;
}

bool is_data(const std::string& got)
{
    return !got.starts_with("error") && got != "(end)";
}

}  // namespace

TEST_CASE("TCP: connect, accept, names, bytes both ways, half close, end")
{
    DoorFixture f;
    RawClient c(f);
    const auto listener = c.socket(AF_INET6, SOCK_STREAM), client = c.socket(AF_INET6, SOCK_STREAM);
    REQUIRE(c.bind(listener, at("fd00::1", 7000)) == 0);
    REQUIRE(c.listen(listener) == 0);
    CHECK(c.get(listener, SOL_SOCKET, SO_ACCEPTCONN) == 1);
    REQUIRE(c.connect(client, at("fd00::1", 7000)) == 0);
    Endpoint from;
    auto server = c.accept(listener, &from);
    REQUIRE(server);
    CHECK(from == c.name(Op::getsockname, client));
    CHECK(c.name(Op::getpeername, server) == from);
    CHECK(c.name(Op::getpeername, client) == at("fd00::1", 7000));
    CHECK(c.connect(client, at("fd00::1", 7000)) == -EISCONN);

    CHECK(put(client, "hello") == 5);
    f.settle(4);
    CHECK(take_bytes(server) == "hello");
    CHECK(put(client, "x") == 1);   // one byte at a time, as an interactive program does
    f.settle(4);
    CHECK(put(client, "y") == 1);
    f.settle(4);
    f.lo.advance(300ms);            // Nagle waits for the delayed acknowledgement
    f.settle(4);
    CHECK(take_bytes(server) == "xy");
    CHECK(put(server, "world") == 5);
    f.settle(4);
    CHECK(take_bytes(client) == "world");
    CHECK(take_bytes(client) == "error Resource temporarily unavailable");

    CHECK(put(client, "bye") == 3);
    CHECK(::shutdown(client.get(), SHUT_WR) == 0);
    f.settle(6);
    CHECK(take_bytes(server) == "bye");
    CHECK(take_bytes(server) == "(end)");
    CHECK(put(server, "after your end") == 14);   // the other direction is still open
    f.settle(4);
    CHECK(take_bytes(client) == "after your end");
    server.reset();
    f.settle(6);
    CHECK(take_bytes(client) == "(end)");
    CHECK(take_bytes(client) == "(end)");         // an end, not a reset
    CHECK(c.get(client, SOL_SOCKET, SO_ERROR) == 0);
    CHECK(f.sockets.size() == 1);                 // both directions are over: only the listener is left
    CHECK(c.call({.op = Op::getpeername}, client.get()).result == -ENOTCONN);
}

TEST_CASE("TCP: five megabytes each way at once through a slow reader, bytes exact and memory bounded")
{
    DoorFixture f;
    RawClient c(f);
    auto t = c.connected(7001);
    const auto data = pattern(5'000'000);
    struct Side {
        const Fd& fd;
        std::size_t sent = 0, got = 0;
    };
    std::array<Side, 2> sides{Side{t.client}, Side{t.server}};
    for (int round = 0; round < 100'000 && (sides[0].got < data.size() || sides[1].got < data.size()); ++round) {
        for (auto& side : sides) {
            side.sent += put(side.fd, std::string_view(data).substr(side.sent, 60'000));
            if (round % 3 == 0) {
                const auto part = take_bytes(side.fd, 40'000);
                if (is_data(part)) {
                    REQUIRE(part == data.substr(side.got, part.size()));
                    side.got += part.size();
                }
            }
        }
        f.turn();
        if (round % 8 == 7)
            f.lo.advance(50ms);
    }
    CHECK(sides[0].got == data.size());
    CHECK(sides[1].got == data.size());
}

TEST_CASE("TCP: a reader that stops stops the writer, not the others, and nothing spins")
{
    DoorFixture f;
    RawClient c(f);
    auto stuck = c.connected(7002), lively = c.connected(7003);
    const auto data = pattern(200'000);
    std::size_t taken = 0;
    for (int i = 0; i < 400; ++i) {
        taken += put(stuck.client, data);
        f.settle(2);
        f.lo.advance(50ms);
    }
    CHECK(taken > 256 * 1024);
    CHECK(taken < 2'000'000);   // descriptors, send buffer, window
    CHECK((poll_now(stuck.client, POLLOUT) & POLLOUT) == 0);
    CHECK_FALSE(f.turn());
    CHECK(put(lively.client, "alive") == 5);
    f.settle(4);
    CHECK(take_bytes(lively.server) == "alive");
    std::string all;   // and all of it arrives once the reader reads
    for (int i = 0; i < 20'000 && all.size() < taken; ++i) {
        if (const auto part = take_bytes(stuck.server); is_data(part))
            all += part;
        f.turn();
        f.lo.advance(50ms);
    }
    CHECK(all.size() == taken);
}

TEST_CASE("TCP: connect refused and unreachable, waiting and not")
{
    DoorFixture f;
    RawClient c(f);
    const auto s = c.socket(AF_INET, SOCK_STREAM);
    CHECK(c.connect(s, at("192.0.2.1", 1)) == -ENETUNREACH);
    CHECK(c.connect(s, at("10.0.0.1", 6990)) == -ECONNREFUSED);
    CHECK(c.connect(s, at("10.0.0.1", 6990), true) == -EINPROGRESS);
    CHECK((poll_now(s, POLLOUT) & POLLOUT) == 0);
    f.settle(4);
    CHECK((poll_now(s, POLLOUT) & POLLOUT) != 0);
    CHECK(c.get(s, SOL_SOCKET, SO_ERROR) == ECONNREFUSED);
    CHECK(c.get(s, SOL_SOCKET, SO_ERROR) == 0);

    const auto listener = c.socket(AF_INET, SOCK_STREAM);   // and the same descriptor can still be connected
    REQUIRE(c.bind(listener, at("10.0.0.1", 6990)) == 0);
    REQUIRE(c.listen(listener) == 0);
    CHECK(c.connect(s, at("10.0.0.1", 6990)) == 0);
    const auto server = c.accept(listener);
    REQUIRE(server);
    CHECK(put(s, "works") == 5);
    f.settle(4);
    CHECK(take_bytes(server) == "works");
}

TEST_CASE("TCP: POLLOUT after a non-blocking connect comes with the connection, and no byte of the waiting shows")
{
    DoorFixture f;
    RawClient c(f);
    const auto listener = c.socket(AF_INET, SOCK_STREAM), s = c.socket(AF_INET, SOCK_STREAM);
    REQUIRE(c.bind(listener, at("10.0.0.1", 7004)) == 0);
    REQUIRE(c.listen(listener) == 0);
    bool hold = true;
    f.lo.lose = [&](const pbuf*) { return hold; };
    CHECK(c.connect(s, at("10.0.0.1", 7004), true) == -EINPROGRESS);
    CHECK(c.connect(s, at("10.0.0.1", 7004), true) == -EALREADY);
    for (int i = 0; i < 10; ++i) {
        f.turn();
        CHECK((poll_now(s, POLLOUT) & POLLOUT) == 0);
        CHECK(put(s, "too early") == 0);
    }
    hold = false;
    for (int i = 0; i < 100 && (poll_now(s, POLLOUT) & POLLOUT) == 0; ++i) {
        f.lo.advance(100ms);
        f.turn();
    }
    CHECK((poll_now(s, POLLOUT) & POLLOUT) != 0);
    CHECK(c.get(s, SOL_SOCKET, SO_ERROR) == 0);
    CHECK(put(s, "first byte") == 10);
    const auto server = c.accept(listener);
    REQUIRE(server);
    f.settle(4);
    CHECK(take_bytes(server) == "first byte");
}

TEST_CASE("TCP: a waiting connect() is answered when its time is over, and forgotten when its channel goes")
{
    DoorFixture f;
    RawClient c(f);
    auto s = c.socket(AF_INET, SOCK_STREAM);
    const auto address = control::socket_address(at("10.0.0.77", 9));
    send_request(c.channel(), {.op = Op::connect, .id = 500, .address = address}, s.get());
    f.settle(4);
    CHECK(take_reply(c.channel()).result == -9999);
    for (int i = 0; i < 60; ++i)
        f.lo.advance(1s), f.turn();
    const auto reply = take_reply(c.channel());
    CHECK(reply.result == -ETIMEDOUT);
    CHECK(reply.id == 500);

    const auto other = connect_channel(f.path);
    send_request(other.get(), {.op = Op::connect, .address = address}, s.get());
    f.settle(4);
    s.reset();   // the socket goes while somebody waits for it
    f.settle(4);
    CHECK(take_reply(other.get()).result == -EBADF);
    auto t = c.socket(AF_INET, SOCK_STREAM);
    {
        const auto brief = connect_channel(f.path);
        send_request(brief.get(), {.op = Op::connect, .address = address}, t.get());
        f.settle(4);
    }
    for (int i = 0; i < 60; ++i)
        f.lo.advance(1s), f.turn();
    CHECK(c.connect(t, at("10.0.0.1", 6991)) == -ECONNREFUSED);
}

TEST_CASE("TCP: after a reset the client reads what had come, then ECONNRESET")
{
    DoorFixture f;
    RawClient c(f);
    for (const bool client_wrote : {false, true}) {
        CAPTURE(client_wrote);
        auto t = c.connected(7005);
        CHECK(put(t.server, "last words") == 10);
        f.settle(4);
        if (client_wrote) {
            CHECK(put(t.client, "never read") == 10);
            f.settle(4);
        } else {
            const linger now{1, 0};
            std::array<std::uint8_t, sizeof now> raw;
            std::memcpy(raw.data(), &now, sizeof now);
            CHECK(c.call({.op = Op::setsockopt, .arg = {SOL_SOCKET, SO_LINGER, 0}, .payload = raw}, t.server.get())
                      .result == 0);
        }
        t.server.reset();   // with unread data, or told to
        f.settle(6);
        CHECK(take_bytes(t.client) == "last words");
        const auto error = c.get(t.client, SOL_SOCKET, SO_ERROR);
        const auto read = take_bytes(t.client);
        CHECK((error == ECONNRESET || read == "error Connection reset by peer"));
        CHECK(put(t.client, "x") == 0);
        t.client.reset();
        t.listener.reset();
        f.settle(6);
        CHECK(f.sockets.size() == 0);
    }
    auto t = c.connected(7006);
    const linger now{1, 0};
    std::array<std::uint8_t, sizeof now> raw;
    std::memcpy(raw.data(), &now, sizeof now);
    CHECK(c.call({.op = Op::setsockopt, .arg = {SOL_SOCKET, SO_LINGER, 0}, .payload = raw}, t.server.get()).result ==
          0);
    t.server.reset();
    f.settle(6);
    CHECK(take_bytes(t.client) == "error Connection reset by peer");
    CHECK(take_bytes(t.client) == "(end)");
}

TEST_CASE("TCP: what was written before close() arrives, then the end")
{
    DoorFixture f;
    RawClient c(f);
    auto t = c.connected(7007);
    const auto data = pattern(150'000);
    std::size_t sent = 0;
    for (int i = 0; i < 20 && sent < data.size(); ++i)
        sent += put(t.client, std::string_view(data).substr(sent));
    CHECK(sent > 100'000);
    t.client.reset();
    std::string got;
    for (int i = 0; i < 2000; ++i) {
        f.turn();
        f.lo.advance(50ms);
        const auto part = take_bytes(t.server, 5000);
        if (part == "(end)")
            break;
        if (is_data(part))
            got += part;
    }
    CHECK(got == data.substr(0, sent));
}

TEST_CASE("TCP: shutdown() through the host takes what is queued along, then writing fails with EPIPE")
{
    DoorFixture f;
    RawClient c(f);
    auto t = c.connected(7008);
    CHECK(put(t.client, "queued") == 6);
    CHECK(c.call({.op = Op::shutdown, .arg = {SHUT_WR, 0, 0}}, t.client.get()).result == 0);
    f.settle(6);
    CHECK(take_bytes(t.server) == "queued");
    CHECK(take_bytes(t.server) == "(end)");
    CHECK(::send(t.client.get(), "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == -1);
    CHECK(errno == EPIPE);
    CHECK(put(t.server, "other way") == 9);
    f.settle(4);
    CHECK(take_bytes(t.client) == "other way");
    CHECK(c.call({.op = Op::shutdown, .arg = {SHUT_RD, 0, 0}}, t.server.get()).result == 0);
    CHECK(c.call({.op = Op::shutdown, .arg = {9, 0, 0}}, t.server.get()).result == -EINVAL);
    const auto fresh = c.socket(AF_INET, SOCK_STREAM);
    CHECK(c.call({.op = Op::shutdown, .arg = {SHUT_WR, 0, 0}}, fresh.get()).result == -ENOTCONN);
}

TEST_CASE("TCP: connections that nobody accepts stay in the backlog")
{
    DoorFixture f;
    RawClient c(f);
    const auto listener = c.socket(AF_INET, SOCK_STREAM);
    REQUIRE(c.bind(listener, at("10.0.0.1", 7009)) == 0);
    REQUIRE(c.listen(listener, 2) == 0);
    std::vector<Fd> clients;
    for (int i = 0; i < 8; ++i) {
        clients.push_back(c.socket(AF_INET, SOCK_STREAM));
        CHECK(c.connect(clients.back(), at("10.0.0.1", 7009), true) == -EINPROGRESS);
        f.settle(3);
    }
    const auto up = [&] {
        return std::count_if(clients.begin(), clients.end(),
                             [](const Fd& fd) { return (poll_now(fd, POLLOUT) & POLLOUT) != 0; });
    };
    CHECK(up() == 3);   // the backlog, and the one that lies in the descriptor: as on Linux
    CHECK_FALSE(f.turn());
    for (int n = 4; n <= 8; ++n) {
        CHECK(static_cast<bool>(c.accept(listener)));
        f.lo.advance(4s);
        f.settle(3);
    }
    CHECK(up() == 8);
}

TEST_CASE("TCP: many connections at once through one listener")
{
    DoorFixture f;
    RawClient c(f);
    const auto listener = c.socket(AF_INET, SOCK_STREAM);
    REQUIRE(c.bind(listener, at("10.0.0.1", 7010)) == 0);
    REQUIRE(c.listen(listener, 100) == 0);
    std::vector<std::pair<Fd, Fd>> pairs;
    for (int i = 0; i < 100; ++i) {
        auto client = c.socket(AF_INET, SOCK_STREAM);
        REQUIRE(c.connect(client, at("10.0.0.1", 7010)) == 0);
        auto server = c.accept(listener);
        REQUIRE(server);
        pairs.emplace_back(std::move(client), std::move(server));
    }
    for (std::size_t i = 0; i < pairs.size(); ++i)
        CHECK(put(pairs[i].first, "client " + std::to_string(i)) != 0);
    f.settle();
    for (std::size_t i = 0; i < pairs.size(); ++i)
        CHECK(take_bytes(pairs[i].second) == "client " + std::to_string(i));
    pairs.clear();
    f.settle();
    CHECK(f.sockets.size() == 1);
}
