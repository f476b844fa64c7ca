// SPDX-License-Identifier: BSD-2-Clause
// Policies as values: selector, action, and the requests (what protection, at what level).
// A Policy is immutable once the SPD has published it; only its use counters move.
#pragma once

#include "pfkey/address.hpp"

#include <netinet6/ipsec.h>

#include <chrono>
#include <cstdint>
#include <vector>

namespace latchkey {

// Monotonic time of the host. Nothing below the host reads a clock: `now` comes in as an argument.
using Time = std::chrono::nanoseconds;

enum class Direction : std::uint8_t { in = IPSEC_DIR_INBOUND, out = IPSEC_DIR_OUTBOUND, fwd = IPSEC_DIR_FWD };
enum class Action : std::uint8_t {
    discard = IPSEC_POLICY_DISCARD,
    none = IPSEC_POLICY_NONE,
    ipsec = IPSEC_POLICY_IPSEC,
    entrust = IPSEC_POLICY_ENTRUST,
    bypass = IPSEC_POLICY_BYPASS,
};
enum class Mode : std::uint8_t { any = IPSEC_MODE_ANY, transport = IPSEC_MODE_TRANSPORT, tunnel = IPSEC_MODE_TUNNEL };
enum class Level : std::uint8_t {
    standard = IPSEC_LEVEL_DEFAULT,
    use = IPSEC_LEVEL_USE,
    require = IPSEC_LEVEL_REQUIRE,
    unique = IPSEC_LEVEL_UNIQUE,
};

namespace ip_proto {
inline constexpr std::uint8_t hop_by_hop = 0, icmp = 1, igmp = 2, ipv4 = 4, tcp = 6, udp = 17, ipv6 = 41, routing = 43,
                              fragment = 44, esp = 50, ah = 51, icmpv6 = 58, no_next = 59, dest_options = 60,
                              mobility = 135, ipcomp = 108, any = 255;
}

struct PortRange {
    std::uint16_t low = 0;
    std::uint16_t high = 0xffff;
    bool operator==(const PortRange&) const = default;
    constexpr bool any() const { return low == 0 && high == 0xffff; }
    constexpr bool contains(std::uint16_t p) const { return p >= low && p <= high; }
};

// For ICMP the type stands in the source port and the code in the destination port, as in KAME.
struct Selector {
    Prefix source;
    Prefix destination;
    PortRange source_port;
    PortRange destination_port;
    std::uint8_t protocol = ip_proto::any;
    bool operator==(const Selector&) const = default;
    bool uses_ports() const { return !source_port.any() || !destination_port.any(); }
};

// What a packet shows to selectors. has_ports is false for fragments and for protocols without ports;
// such a packet matches no rule that names a port.
struct Flow {
    Address source;
    Address destination;
    std::uint16_t source_port = 0;
    std::uint16_t destination_port = 0;
    std::uint8_t protocol = 0;
    bool has_ports = false;
    bool operator==(const Flow&) const = default;
};

struct Request {
    std::uint8_t protocol = ip_proto::esp;   // esp, ah, ipcomp
    Mode mode = Mode::transport;
    Level level = Level::standard;
    std::uint32_t reqid = 0;                 // 0: any SA
    Address tunnel_source;                   // family none in transport mode
    Address tunnel_destination;
    std::uint16_t tunnel_source_port = 0;    // carried for clients that give them; selection ignores them
    std::uint16_t tunnel_destination_port = 0;
    std::uint32_t tunnel_source_scope = 0;   // IPv6 zone index, 0: none
    std::uint32_t tunnel_destination_scope = 0;
    bool operator==(const Request&) const = default;
};

struct Policy {
    std::uint32_t id = 0;
    Direction direction = Direction::out;
    Action action = Action::none;
    std::uint32_t priority = 0;              // lower comes first; ties: insertion order
    std::uint64_t order = 0;                 // insertion number, the tie break
    std::uint64_t born = 0;                  // that of the policy which this one replaced, and so on: dumps go by it
    Selector selector;
    std::vector<Request> requests;           // outermost last, as in setkey: inner transform first
    Time created{0};
    std::uint64_t lifetime = 0;              // seconds until SPDEXPIRE, 0: none (LIFETIME_HARD addtime)
    std::uint64_t validtime = 0;             // seconds of disuse until SPDEXPIRE, 0: none (usetime)
    mutable Time last_used{0};               // 0: never
};

}  // namespace latchkey
