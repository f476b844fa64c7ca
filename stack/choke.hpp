// SPDX-License-Identifier: BSD-2-Clause
// The choke layer: the only way for a packet between lwIP and a wire (design §3). lwIP functions redirected at compile
// time and netif->output lead here. Egress sees whole datagrams once, before fragmentation; ingress takes transforms off,
// puts fragments together and checks policy before lwIP's IP input sees the packet; transit packets never enter lwIP.
#pragma once

#include "stack/fragment.hpp"
#include "stack/interface.hpp"
#include "stack/route.hpp"
#include "stack/walk.hpp"

#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

namespace latchkey {

class Choke {
public:
    Choke(Engine& engine, Walk& walk, PacketPool& pool, RouteTable& routes, SocketIndex& sockets, Rng& rng,
          std::vector<std::unique_ptr<Interface>>& interfaces);
    ~Choke();
    Choke(const Choke&) = delete;
    Choke& operator=(const Choke&) = delete;

    bool forwarding = false;
    std::function<void(Drop, const Packet&)> on_drop;   // for the log; empty: nobody listens
    Time now{0};                                        // set by the host before every entry

    // ---- from the wire, and from the loop top --------------------------------------------------------------------
    void frame(Interface& in, Bytes frame);
    bool run(unsigned budget);                          // queued packets; true: more are waiting
    void tick();                                        // reassembly and hold time-outs
    Time next_deadline() const;

    // ---- from lwIP -----------------------------------------------------------------------------------------------
    signed char output(netif& n, pbuf* p, const Address& destination);
    signed char loop_output(netif& n, pbuf* p);
    // remote_ip: lwIP passes the address inside the PCB, which is how the PCB is found. announce: for our SYN's MSS option.
    std::uint16_t segment_size(std::uint16_t wanted, const void* remote_ip, bool announce);
    bool admits(const pbuf* p) const { return p == admitted_; }   // has this packet passed ingress?

    // ---- for the host and the socket manager -----------------------------------------------------------------------
    // Why the last datagram that lwIP gave to output() was not sent; Drop::none if it was, or waits for an SA.
    Drop take_last_drop() { return std::exchange(last_drop_, Drop::none); }
    void acquire_done(std::uint32_t acquire);           // its packets go out, or are dropped, at the loop top
    void resize_segments();                             // after a change of policies, SAs, routes or MTUs
    std::size_t held() const { return held_packets_; }
    void forget(const Interface& gone);                 // nothing queued or held refers to it any more

    // Routes. The next hop of a destination that is reached by `on`; the destination itself when on link.
    Interface* route(const Address& destination);
    Address next_hop(const Interface& on, const Address& destination) const;
    ip6_addr next_hop_v6(const netif& on, const ip6_addr& destination) const;

private:
    struct Queued {
        Pbuf packet;
        Interface* in;
        History history;
    };
    struct Held {
        Pbuf datagram;
        Interface* by;                    // null: transit, routed anew
        SocketHandle socket;
        std::uint32_t acquire;
        unsigned missing;                 // SAs, when it began to wait
        Time since;
        std::size_t refragment;
        std::uint32_t refragment_id;
    };
    // One whole datagram on its way out, before policy.
    struct Egress {
        Interface* by = nullptr;          // null: routed by destination
        pbuf* whole = nullptr;            // contiguous; borrowed
        SocketHandle socket = 0;
        const Held* retry = nullptr;      // it has waited for an SA already
        const Queued* from = nullptr;     // transit: what came in
        // Transit, put together for the port check: how to cut it again.
        std::size_t refragment = 0;       // size of its largest fragment
        std::uint32_t refragment_id = 0;
        bool only_protected = false;      // never in clear: it tells about a packet that came protected
        bool sealed = false;              // by the walk
    };

    void ingress(Queued q);
    void deliver(Queued& q);
    void learn_path_mtu(const Interface& in, Bytes bytes, const Packet& packet);
    bool knows_sa(Bytes quoted, const Address& destination) const;
    struct Fragmented {                   // what a datagram came as
        std::size_t largest = 0;
        std::uint32_t id = 0;
    };
    void forward(Queued& q, Packet& packet, const Fragmented& came_as);
    bool reassemble(Queued& q, Packet& packet, Fragmented& came_as);
    bool is_local(const Interface& in, const Address& destination) const;
    bool is_our_address(const Address& a) const;
    bool transit_needs_whole() const;
    void report_timeout(Bytes first_fragment, std::uint64_t provenance);
    void enqueue(Queued q);

    Drop dispatch(const Egress& e, const Packet& packet);
    Drop transmit(const Egress& e, pbuf* p, const Packet& packet);
    std::size_t piece_size(const Egress& e, const Packet& packet);
    Drop dispatch_pieces(const Egress& e, const Packet& packet, std::size_t size);
    Pbuf assemble(const Fragmenter::Piece& piece);
    Drop transmit_sealed(const Egress& e, const Packet& packet, pbuf* sealed);
    Drop transmit_fragments(Interface& by, pbuf* p, const Packet& packet, std::size_t mtu, std::uint32_t id);
    Drop hold(const Egress& e, const Packet& packet, std::uint32_t acquire);
    void link_output(Interface& by, pbuf* p, const Address& destination);
    struct IcmpError {
        std::uint8_t v4_type, v4_code, v6_type, v6_code;
        std::uint32_t value;              // the second word: next-hop MTU
        static IcmpError too_big(std::size_t mtu) { return {3, 4, 2, 0, static_cast<std::uint32_t>(mtu)}; }
    };
    void send_icmp_error(const Queued& about, const Packet& packet, const IcmpError& error);
    const Address* icmp_source(const Queued& about, const Packet& packet, const IcmpError& error);
    bool icmp_allowed();
    static bool is_icmp_error(const Packet& packet);
    std::size_t path_mtu(const Interface& by, const Address& destination) const;
    Interface* interface_of(const netif* n) const;
    void drop(Drop why, const Packet& packet = {})   // none: it could not be read
    {
        walk_.counters.count(why);
        if (on_drop)
            on_drop(why, packet);
    }

    Engine& engine_;
    Walk& walk_;
    PacketPool& pool_;
    RouteTable& routes_;
    SocketIndex& sockets_;
    std::vector<std::unique_ptr<Interface>>& interfaces_;
    Reassembly reassembly_;
    std::deque<Queued> queue_;
    std::unordered_map<std::uint32_t, std::vector<Held>> held_;
    std::deque<Held> released_;
    std::size_t held_packets_ = 0, held_bytes_ = 0;
    const pbuf* admitted_ = nullptr;
    bool answering_protected_ = false;    // lwIP is at a packet that came protected
    Drop last_drop_ = Drop::none;
    PathMtus path_mtus_;
    std::uint32_t next_fragment_id_;
    Time icmp_window_{0};
    unsigned icmp_sent_ = 0;
    std::uint8_t segment_slot_;           // TCP ext arg that keeps the segment size the peer announced
};

}  // namespace latchkey
