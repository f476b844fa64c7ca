// SPDX-License-Identifier: BSD-2-Clause
// The IPsec walk: which policy a packet meets, which SA applies, and what becomes of it. Out: decide, select, seal. In: open,
// check. It sees packets as bytes, holds no clock and no interface; the choke layer calls it and carries out the verdict.
#pragma once

#include "pfkey/engine.hpp"
#include "stack/esp.hpp"
#include "stack/history.hpp"
#include "stack/ipcomp.hpp"
#include "stack/packet.hpp"
#include "stack/pbuf.hpp"
#include "stack/socket_index.hpp"

#include <array>
#include <expected>
#include <functional>
#include <memory>
#include <vector>

namespace latchkey {

// The tunables that act on packets, read once when they change (pfkey/tunables.hpp has the table).
struct WalkSettings {
    struct PerFamily {
        bool enabled = true;                         // false: no IPsec at all
        bool default_discard = false;                // def_policy = 0
        bool strict = false;                         // a protected packet needs an `in` policy that asks for it
        Level esp_transport = Level::use, esp_tunnel = Level::use, ah_transport = Level::use, ah_tunnel = Level::use;
        int ecn = 0;                                 // -1 ignore, 0 forbidden, 1 allowed
        int random_padding = -1;                     // ESP: up to so many bytes, -1: none
        bool repeat_sequence = false, break_icv = false;   // for tests of peers
    };
    PerFamily v4, v6;
    int dfbit = 0;                                   // outer DF: 0 clear, 1 set, 2 copy
    AhRules ah;                                      // of IPv4
    bool esp_enabled = true, ah_enabled = true, ipcomp_enabled = true;   // inbound
    bool trust_natt_checksums = false;               // natt_cksum_policy = 1
    std::size_t cache_entries = 4096;                // of the flow cache; a power of two, or 0
    std::size_t cache_threshold = 0;                 // policies from which on it is used
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

    WalkCounters counters;
    const WalkSettings& settings() const { return settings_; }
    void configure(const WalkSettings& settings);

    enum class Outcome : std::uint8_t { clear, sealed, held, dropped, cut };
    struct Outbound {
        Outcome outcome = Outcome::clear;
        Drop drop = Drop::none;
        std::uint32_t acquire = 0;   // held: wait for this ACQUIRE
        std::size_t piece = 0;       // cut: into fragments of at most so many bytes, and each comes back (NAT_T_FRAG)
        Pbuf packet;                 // sealed: a whole new datagram, maybe to another destination (tunnel)
    };
    // One whole outbound datagram, header built, before fragmentation. The input is not written to.
    Outbound outbound(Bytes datagram, const Packet& packet, SocketHandle socket, Time now, bool may_cut = false);

    // The largest IP datagram of this flow whose protected form still fits the path. `mtu` gives the MTU towards an
    // address (the outermost header's destination). Looks only; starts no ACQUIRE.
    std::size_t room(const Flow& flow, const std::function<std::size_t(const Address&)>& mtu, Time now);

    // What a whole packet to this host is wrapped in, if it is for the walk to take that off. ESP in UDP is told from
    // IKE by its first bytes; IP in IP is taken off between two hosts that have an IPComp tunnel, whose packets travel
    // so when they do not get smaller (RFC 3173 §2.2).
    enum class Wrapping : std::uint8_t { none, esp, esp_in_udp, ah, ipcomp, ip_in_ip, keepalive };
    Wrapping wrapping(Bytes bytes, const Packet& packet) const;

    // Takes one wrapping off. On success `packet` holds what was inside: in transport mode the same header with the
    // inner protocol, in tunnel mode the inner datagram; as a view of the same buffer, if it was not compressed.
    Drop open(Wrapping wrapping, Pbuf& packet, const Packet& parsed, History& history, Time now);

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
    static constexpr std::size_t bundle_limit = 8;   // SAs that one packet may be sealed with
    using Bundle = std::array<Sa*, bundle_limit>;    // one per request; null: level `use`, and there is none

    struct FlowEntry {
        static constexpr std::size_t kept = 3;       // longer bundles are selected per packet
        Flow flow;
        std::uint64_t generation = 0;
        const Policy* policy = nullptr;
        std::array<Sa*, kept> sas{};
        Direction direction = Direction::out;
        bool selected = false;                       // sas is what the policy's requests lead to
    };

    struct Layer {
        const Request* request;
        Address source, destination;   // of the packet that this request receives
        const Sa* sa;
        bool applies;                  // there is an SA, or there has to be one
    };
    struct Layers {
        std::array<Layer, bundle_limit> of;
        std::size_t count = 0;
        Address destination;           // of the outermost header
    };
    // What a transform is to be applied to: in tunnel mode the datagram, in transport mode what follows the header.
    struct Inside {
        Family outer;                  // of the header that will carry it
        std::size_t head;              // and its size
        Bytes payload;
        std::uint8_t protocol;         // of the payload
    };
    struct Opened {
        Sa* sa;
        std::uint8_t next_header;
        MutableBytes payload;          // a view of the packet
    };

    Layers layers(const Policy& policy, const Flow& flow) const;
    FlowEntry& lookup(Direction direction, const Flow& flow, Time now);
    Level effective(const Request& request, Family family) const;
    std::size_t payload_room(const Sa& sa, Family outer, std::size_t room) const;
    Drop select(FlowEntry& entry, const Packet& packet, Bundle& chosen, Outbound& out, Time now);
    void seal_bundle(const Policy& policy, const Bundle& chosen, Bytes datagram, const Packet& packet, Outbound& out,
                     Time now);

    // One request. `sealed` stays empty if IPComp leaves the packet as it is.
    Drop seal(Sa& sa, const Request& request, Bytes datagram, const Packet& packet, Pbuf& sealed, Time now);
    Drop seal_esp(Sa& sa, const Request& request, Bytes datagram, const Packet& packet, Pbuf& sealed, Time now);
    Drop seal_ah(Sa& sa, const Request& request, Bytes datagram, const Packet& packet, Pbuf& sealed, Time now);
    Drop seal_ipcomp(Sa& sa, const Request& request, Bytes datagram, const Packet& packet, Pbuf& sealed, Time now);
    static Inside inside(const Request& request, Bytes datagram, const Packet& packet);
    bool take_sequence(Sa& sa, Family outer);
    void write_header(MutableBytes out, const Request& request, Bytes datagram, const Packet& packet,
                      std::uint8_t protocol);
    void write_outer_header(MutableBytes out, const Request& request, const Packet& inner, std::uint8_t protocol);

    Drop open_esp(bool in_udp, Pbuf& packet, const Packet& parsed, History& history, Time now);
    Drop open_ah(Pbuf& packet, const Packet& parsed, History& history, Time now);
    Drop open_ipcomp(Pbuf& packet, const Packet& parsed, History& history, Time now);
    Drop open_ip_in_ip(Pbuf& packet, const Packet& parsed, History& history);
    bool enabled(Wrapping wrapping, Family family) const;
    std::expected<Sa*, Drop> inbound_sa(const Packet& parsed, std::uint8_t protocol, std::uint32_t spi);
    Sa* ipcomp_sa(const Packet& parsed, Bytes header, Drop& why);
    const Sa* ipcomp_tunnel(const Packet& parsed) const;
    Drop unwrap(Pbuf& packet, const Packet& parsed, const Opened& opened, History& history);
    Drop enter_inner(Pbuf& packet, const Packet& parsed, const Sa& sa, std::uint8_t next_header, MutableBytes inner);
    Drop satisfied(const Policy& policy, const Packet& packet, const History& history, Direction direction) const;
    bool optional(const Request& request, Family family) const;
    bool protects(const Policy& policy, std::size_t i, const Packet& packet, const Protection& applied) const;
    Compressor& compressor();

    Engine& engine_;
    CipherBackend& cipher_;
    PacketPool& pool_;
    WalkSettings settings_;
    std::vector<FlowEntry> flows_;
    FlowEntry uncached_;                          // the answer of the latest lookup that is not to be kept
    std::uint16_t next_id_;
    std::unique_ptr<Compressor> compressor_;      // with the first IPComp packet: its tables are large
    std::vector<std::uint8_t> scratch_;           // what was decompressed, before its size is known
};

}  // namespace latchkey
