// SPDX-License-Identifier: BSD-2-Clause
#include "stack/socket_index.hpp"

#include <doctest/doctest.h>

using namespace latchkey;

namespace {

Endpoint at(const char* address, unsigned port)
{
    return {*Address::parse(address), static_cast<std::uint16_t>(port), 0};
}

// As received: from the remote side to us.
Flow flow(const Endpoint& from, const Endpoint& to, std::uint8_t protocol = ip_proto::udp)
{
    return {from.address, to.address, from.port, to.port, protocol, true};
}

}  // namespace

TEST_CASE("by PCB")
{
    SocketIndex index;
    const int one = 0, two = 0;
    index.add_pcb(&one, 5);
    CHECK(index.by_pcb(&one) == 5);
    CHECK(index.by_pcb(&two) == 0);
    index.add_pcb(&one, 6);
    CHECK(index.by_pcb(&one) == 6);
    index.remove_pcb(&one);
    CHECK(index.by_pcb(&one) == 0);
    CHECK(index.by_pcb(nullptr) == 0);
}

TEST_CASE("by tuple: the most specific entry wins, step by step")
{
    SocketIndex index;
    const auto local = at("10.0.0.1", 500), remote = at("10.0.0.2", 4500);
    const auto packet = flow(remote, local);
    CHECK(index.inbound(packet) == 0);
    index.add_tuple(ip_proto::udp, at("0.0.0.0", 500), {}, 1);
    CHECK(index.inbound(packet) == 1);
    index.add_tuple(ip_proto::udp, local, {}, 2);
    CHECK(index.inbound(packet) == 2);
    index.add_tuple(ip_proto::udp, at("0.0.0.0", 500), remote, 3);
    CHECK(index.inbound(packet) == 3);
    index.add_tuple(ip_proto::udp, local, remote, 4);
    CHECK(index.inbound(packet) == 4);

    CHECK(index.inbound(flow(at("10.0.0.3", 4500), local)) == 2);
    CHECK(index.inbound(flow(remote, at("10.0.0.9", 500))) == 3);
    CHECK(index.inbound(flow(at("10.0.0.3", 1), at("10.0.0.9", 500))) == 1);
    CHECK(index.inbound(flow(remote, local, ip_proto::tcp)) == 0);
    CHECK(index.inbound(flow(remote, at("10.0.0.1", 501))) == 0);
    CHECK(index.inbound(flow(at("fd00::2", 4500), at("fd00::1", 500))) == 0);   // 0.0.0.0 is IPv4 only

    index.remove_tuple(ip_proto::udp, local, remote, 4);
    CHECK(index.inbound(packet) == 3);
    index.remove_tuple(ip_proto::udp, at("0.0.0.0", 500), remote, 3);
    index.remove_tuple(ip_proto::udp, local, {}, 2);
    CHECK(index.inbound(packet) == 1);
    index.remove_tuple(ip_proto::udp, at("0.0.0.0", 500), {}, 1);
    CHECK(index.inbound(packet) == 0);
}

TEST_CASE("a packet that shows no ports belongs to no socket")
{
    SocketIndex index;
    index.add_tuple(ip_proto::udp, at("0.0.0.0", 0), {}, 1);
    auto fragment = flow(at("10.0.0.2", 0), at("10.0.0.1", 0));
    fragment.has_ports = false;
    CHECK(index.inbound(fragment) == 0);
}

TEST_CASE("shared tuples: each socket takes only its own entry away")
{
    SocketIndex index;
    const auto local = at("fd00::1", 500);
    index.add_tuple(ip_proto::udp, local, {}, 1);
    index.add_tuple(ip_proto::udp, local, {}, 2);
    index.remove_tuple(ip_proto::udp, local, {}, 3);   // never added
    index.remove_tuple(ip_proto::udp, local, {}, 1);
    CHECK(index.inbound(flow(at("fd00::2", 1), local)) == 2);
    index.remove_tuple(ip_proto::udp, local, {}, 2);
    CHECK(index.inbound(flow(at("fd00::2", 1), local)) == 0);
}

TEST_CASE("zones of link-local addresses do not matter: a packet does not show them")
{
    SocketIndex index;
    index.add_tuple(ip_proto::tcp, {*Address::parse("fe80::1"), 80, 2}, {*Address::parse("fe80::2"), 99, 2}, 7);
    CHECK(index.inbound(flow(at("fe80::2", 99), at("fe80::1", 80), ip_proto::tcp)) == 7);
    index.remove_tuple(ip_proto::tcp, {*Address::parse("fe80::1"), 80, 0}, {*Address::parse("fe80::2"), 99, 0}, 7);
    CHECK(index.inbound(flow(at("fe80::2", 99), at("fe80::1", 80), ip_proto::tcp)) == 0);
}
