// SPDX-License-Identifier: BSD-2-Clause
// What a host is made from: the command line of latchkeyd, a test, or an application that embeds a host fills this in.
#pragma once

#include "pfkey/engine.hpp"

#include <array>
#include <optional>
#include <string>
#include <vector>

namespace latchkey {

using MacAddress = std::array<std::uint8_t, 6>;

struct InterfaceConfig {
    std::optional<MacAddress> mac;         // none: random, locally administered
    std::size_t mtu = 1500;
    std::vector<Prefix> addresses;
};

struct RouteConfig {
    Prefix destination;
    Address gateway;                       // family none: on link, then interface is needed
    std::string interface;                 // empty: found by the gateway
};

struct HostConfig {
    std::string name = "latchkey";
    std::vector<InterfaceConfig> interfaces;   // named net0, net1, ... in this order; lo is always there
    std::vector<RouteConfig> routes;
    bool forwarding = false;
    std::int64_t wall_offset = 0;          // seconds from `now` to the time of day
    std::uint32_t owner = 0;               // user who runs the host: may open key sockets and low ports, as root may
    EngineLimits limits;
    std::size_t packet_bytes = 64u * 1024 * 1024;   // of packet buffers, in all
};

}  // namespace latchkey
