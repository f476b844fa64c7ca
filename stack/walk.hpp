// SPDX-License-Identifier: BSD-2-Clause
// The IPsec walk: which policy a packet meets, which SA applies, and what becomes of it. Out: decide, select, seal. In: open,
// check. It sees packets as bytes, holds no clock and no interface; the choke layer calls it and carries out the verdict.
#pragma once

#include "pfkey/engine.hpp"
#include "stack/esp.hpp"
#include "stack/history.hpp"
#include "stack/packet.hpp"
#include "stack/pbuf.hpp"
#include "stack/socket_index.hpp"

#include <array>
#include <functional>

namespace latchkey {

// The tunables that act on packets, read once when they change (pfkey/tunables.hpp has the table).
struct WalkSettings {
    struct PerFamily {
        bool default_discard = false;                // def_policy = 0
        bool strict = false;                         // a protected packet needs an `in` policy that asks for it
        Level esp_transport = Level::use, esp_tunnel = Level::use, ah_transport = Level::use, ah_tunnel = Level::use;
        int ecn = 0;                                 // -1 ignore, 0 forbidden, 1 allowed
    };
    PerFamily v4, v6;
    int dfbit = 0;                                   // outer DF: 0 clear, 1 set, 2 copy
    const PerFamily& of(Family family) const { return family == Family::v6 ? v6 : v4; }
};

struct WalkCounters {
    std::array<std::uint64_t, static_cast<std::size_t>(Drop::count_)> drops{};
    std::uint64_t out_clear = 0, out_protected = 0, out_held = 0, in_clear = 0, in_protected = 0, forwarded = 0;
    std::uint64_t flow_hits = 0, flow_misses = 0;
    void count(Drop drop) { ++drops[static_cast<std::size_t>(drop)]; }
};

class Walk {
public:
    Walk(Engine& engine, CipherBackend& cipher, PacketPool& pool, Rng& rng);

    WalkSettings settings;
    WalkCounters counters;

    enum class Outcome : std::uint8_t { clear, sealed, held, dropped };
    struct Outbound {
        Outcome outcome = Outcome::clear;
        Drop drop = Drop::none;
        std::uint32_t acquire = 0;   // held: wait for this ACQUIRE
        Pbuf packet;                 // sealed: a whole new datagram, maybe to another destination (tunnel)
    };
    // One whole outbound datagram, header built, before fragmentation. The input is not written to.
    Outbound outbound(Bytes datagram, const Packet& packet, SocketHandle socket, Time now);

    // The largest IP datagram of this flow whose protected form still fits the path. `mtu` gives the MTU towards an
    // address (the outermost header's destination). Looks only; starts no ACQUIRE.
    std::size_t room(const Flow& flow, const std::function<std::size_t(const Address&)>& mtu, Time now);

    // Takes one transform off, in place. On success `packet` holds what was inside: in transport mode the same header
    // with the inner protocol, in tunnel mode the inner datagram as a view of the same buffer.
    Drop open(Pbuf& packet, const Packet& parsed, History& history, Time now);

    // The outbound policy of this flow if it asks for protection; null: none, or another action.
    const Policy* protection_of(const Flow& flow, Time now);

    // How many SAs that policy asks for do not exist. Looks only; starts no ACQUIRE.
    unsigned missing(const Flow& flow, Time now);

    // May this packet be delivered (in) or passed on (fwd), given what protected it?
    Drop check(Direction direction, const Packet& packet, const History& history, SocketHandle socket, Time now);

    // A packet of this host to itself: policy decides whether it may pass, cryptography has no place on it.
    Drop check_loopback(const Packet& packet, Time now);

    // Neighbour discovery, MLD and IGMP keep links alive and are never subject to policy (design §3).
    static bool is_link_control(const Packet& packet);

private:
    struct FlowEntry {
        Flow flow;
        std::uint64_t generation = 0;
        const Policy* policy = nullptr;
        Sa* sa = nullptr;            // of a policy with exactly one request, once it was selected
        Direction direction = Direction::out;
    };
    static constexpr std::size_t flow_entries = 4096;

    struct Layer {
        const Request* request;
        Address source, destination;   // of the packet that this request receives
        const Sa* sa;
        bool applies;                  // there is an SA, or there has to be one
    };
    struct Layers {
        std::array<Layer, 8> of;
        std::size_t count = 0;
        Address destination;           // of the outermost header
    };
    Layers layers(const Policy& policy, const Flow& flow) const;
    FlowEntry& lookup(Direction direction, const Flow& flow, Time now);
    Level effective(const Request& request, Family family) const;
    Drop select(FlowEntry& entry, const Packet& packet, std::array<Sa*, 8>& chosen, Outbound& out, Time now);
    Drop seal(Sa& sa, Mode mode, const Request& request, Bytes datagram, const Packet& packet, Pbuf& sealed, Time now);
    std::size_t write_outer_header(MutableBytes out, const Request& request, const Packet& inner, std::size_t total);
    Drop satisfied(const Policy& policy, const Packet& packet, const History& history, Direction direction) const;

    Engine& engine_;
    CipherBackend& cipher_;
    PacketPool& pool_;
    std::vector<FlowEntry> flows_;
    std::uint16_t next_id_;
};

}  // namespace latchkey
