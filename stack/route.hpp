// SPDX-License-Identifier: BSD-2-Clause
// The host's own route table (lwIP has none), behind lwIP's route and gateway hooks and behind tunnels' outer packets.
// Longest prefix first; one hash per prefix length in use.
#pragma once

#include "pfkey/address.hpp"

#include "pfkey/policy.hpp"

#include <array>
#include <bitset>
#include <unordered_map>
#include <vector>

namespace latchkey {

struct Route {
    Prefix destination;        // host bits clear
    Address gateway;           // family none: on link
    unsigned interface = 0;    // index of the host's interface
    bool connected = false;    // comes and goes with an address
    bool operator==(const Route&) const = default;
};

class RouteTable {
public:
    Result<> add(const Route& route);            // exists: this prefix has a route already
    Result<> remove(const Prefix& destination, bool connected);
    void remove_interface(unsigned interface);
    const Route* lookup(const Address& destination) const;   // null: no route
    std::vector<Route> list() const;             // v4 before v6, longest prefix first

private:
    struct Table {
        std::array<std::unordered_map<std::uint64_t, std::vector<Route>>, 129> by_length;
        std::bitset<129> used;
    };
    Table& table(Family family) { return family == Family::v4 ? v4_ : v6_; }
    const Table& table(Family family) const { return family == Family::v4 ? v4_ : v6_; }
    Table v4_, v6_;
};

// What routers have said about the MTU of paths (RFC 8201, RFC 1191). Two destinations that meet in one slot push each
// other out, which costs a packet and an ICMP error; in exchange the table neither grows nor allocates.
class PathMtus {
public:
    // True: the path is narrower than was known.
    bool learn(const Address& destination, std::size_t mtu, Time now);
    std::size_t lookup(const Address& destination, std::size_t link_mtu, Time now) const;

private:
    static constexpr Time lifetime = std::chrono::minutes(10);   // RFC 8201 §4: then try again whether more fits
    struct Path {
        Address destination;
        std::size_t mtu = 0;
        Time until{0};
    };
    std::size_t slot(const Address& destination) const { return destination.hash() % paths_.size(); }
    std::vector<Path> paths_ = std::vector<Path>(1024);
};

}  // namespace latchkey
