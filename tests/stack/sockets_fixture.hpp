// SPDX-License-Identifier: BSD-2-Clause
// A socket manager over the looped-back lwIP, and short words for its calls.
#pragma once

#include "stack/sockets.hpp"

#include "tests/stack/lwip_stubs.hpp"

#include <algorithm>
#include <doctest/doctest.h>
#include <map>
#include <net/pfkeyv2.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace latchkey::test {

inline constexpr int tcp_nodelay = 1, tcp_maxseg = 2;   // <netinet/tcp.h> does not go with lwIP's headers
inline constexpr Credentials root{1, 0, 0}, user{2, 1000, 1000}, owner{3, 500, 500};

inline Endpoint at(const char* address, unsigned port)
{
    return {*Address::parse(address), static_cast<std::uint16_t>(port), 0};
}

inline Bytes text(std::string_view s)
{
    static std::array<std::array<std::uint8_t, 64>, 4> slots;
    static unsigned next = 0;
    auto& slot = slots[next++ % slots.size()];
    std::copy(s.begin(), s.end(), slot.begin());
    return Bytes(slot).first(s.size());
}

struct SocketsFixture {
    explicit SocketsFixture(SocketLimits limits = {}) : sockets(index, engine, 500, limits)
    {
        sockets.on_event = [this](SocketId id, unsigned e) { events[id] |= e; };
        lo.output_error = 0;
        lo.lose = nullptr;
    }
    ~SocketsFixture()
    {
        lo.lose = nullptr;
        lo.output_error = 0;
    }

    SocketId open(int domain, int type, int protocol = 0, Credentials by = root)
    {
        const auto id = sockets.open(domain, type, protocol, by);
        REQUIRE(id);
        return *id;
    }
    int bind(SocketId id, const Endpoint& e) { return error(sockets.bind(id, e)); }
    int connect(SocketId id, const Endpoint& e) { return error(sockets.connect(id, e)); }
    int listen(SocketId id, int backlog = 16) { return error(sockets.listen(id, backlog)); }
    int send(SocketId id, const Endpoint& to, Bytes data) { return error(sockets.send_datagram(id, to, data)); }
    template <class T> static int error(const SysResult<T>& r) { return r ? 0 : r.error(); }
    int option(SocketId id, int level, int name)
    {
        int value = -1;
        std::array<std::uint8_t, 4> raw{};
        if (const auto n = sockets.get_option(id, level, name, raw); !n)
            return -n.error();
        std::memcpy(&value, raw.data(), 4);
        return value;
    }
    int set(SocketId id, int level, int name, int value)
    {
        std::array<std::uint8_t, 4> raw{};
        std::memcpy(raw.data(), &value, 4);
        return error(sockets.set_option(id, level, name, raw));
    }

    SocketId listener(const Endpoint& local, int backlog = 16)
    {
        const auto id = open(local.address.is_v4() ? AF_INET : AF_INET6, SOCK_STREAM);
        REQUIRE(set(id, SOL_SOCKET, SO_REUSEADDR, 1) == 0);
        REQUIRE(bind(id, local) == 0);
        REQUIRE(listen(id, backlog) == 0);
        return id;
    }
    struct Pair {
        SocketId client, server, listener;
    };
    Pair connected(const char* address = "10.0.0.1", unsigned port = 7000)
    {
        const auto l = listener(at(address, port));
        const auto c = open(Address::parse(address)->is_v4() ? AF_INET : AF_INET6, SOCK_STREAM);
        REQUIRE(connect(c, at(address, port)) == EINPROGRESS);
        lo.pump();
        REQUIRE((events[c] & socket_event::connected) != 0);
        REQUIRE((events[l] & socket_event::acceptable) != 0);
        const auto s = sockets.accept(l);
        REQUIRE(s);
        return {c, *s, l};
    }
    std::string read(SocketId id, std::size_t n = 65536)
    {
        std::string out(n, '\0');
        std::vector<std::uint8_t> raw(n);
        const auto got = sockets.read(id, raw);
        if (!got)
            return "error " + std::to_string(got.error());
        return std::string(raw.begin(), raw.begin() + static_cast<std::ptrdiff_t>(*got));
    }
    std::string datagram(SocketId id, Endpoint* from = nullptr)
    {
        DatagramView view;
        if (!sockets.front_datagram(id, view))
            return "(none)";
        std::string out;
        for (const auto piece : view.payload)
            out.append(piece.begin(), piece.end());
        if (from != nullptr)
            *from = view.header.remote;
        sockets.pop_datagram(id);
        return out;
    }

    Loopback& lo = Loopback::instance();
    PinnedRng rng;
    SocketIndex index;
    Engine engine{rng, 0};
    std::map<SocketId, unsigned> events;
    Sockets sockets;
};

}  // namespace latchkey::test
