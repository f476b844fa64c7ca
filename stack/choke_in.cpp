// SPDX-License-Identifier: BSD-2-Clause
// Ingress: frame -> parse -> reassemble -> open -> policy -> lwIP, or -> forward. A decapsulated packet goes back to the
// queue and is a new packet with a history; nothing nests.
#include "stack/choke.hpp"

#include "lwip/ip4.h"
#include "lwip/ip6.h"
#include "lwip/etharp.h"
#include "lwip/pbuf.h"
#include "netif/ethernet.h"

#include <algorithm>

namespace latchkey {

namespace {

constexpr std::size_t queue_limit = 4096;
constexpr std::size_t ethernet_header = 14;
constexpr std::size_t shortest_arp = 42;          // lwIP reads a whole ARP header without asking (reference §7.2)
constexpr std::uint16_t type_ipv4 = 0x0800, type_arp = 0x0806, type_ipv6 = 0x86dd;

// Addresses that never come from a wire (RFC 1122 §3.2.1.3, RFC 4291 §2.5.3).
bool martian(const Packet& packet)
{
    return packet.source.is_multicast() || packet.source.is_loopback() || packet.destination.is_loopback();
}

}  // namespace

void Choke::frame(Interface& in, Bytes frame)
{
    ++in.frames_in;
    in.bytes_in += frame.size();
    if (frame.size() < ethernet_header || !in.up())
        return;
    const bool group = (frame[0] & 1) != 0;
    if (!group && !std::equal(frame.begin(), frame.begin() + 6, in.lwip.hwaddr))
        return;   // flooded by the segment, meant for another host
    const auto type = wire::field<std::uint16_t>(frame, 12);
    if (type == type_arp) {
        if (frame.size() >= shortest_arp)
            if (auto p = pool_.copy(frame))
                ethernet_input(p.release(), &in.lwip);
        return;
    }
    if (type != type_ipv4 && type != type_ipv6)
        return;
    Queued q{pool_.copy(frame.subspan(ethernet_header)), &in, {}};
    if (!q.packet)
        return drop(Drop::in_no_buffer);
    if (group)
        q.packet.get()->flags = static_cast<u8_t>(q.packet.get()->flags | (frame[0] == 0xff ? PBUF_FLAG_LLBCAST : PBUF_FLAG_LLMCAST));
    ingress(std::move(q));
}

bool Choke::run(unsigned budget)
{
    for (std::size_t n = released_.size(); n > 0; --n) {
        const Held held = std::move(released_.front());
        released_.pop_front();
        --held_packets_;
        held_bytes_ -= held.datagram.size();
        const auto parsed = parse_packet(held.datagram.bytes());
        if (!parsed)
            continue;
        // Nothing came: asking again for every packet would keep a key manager that refuses busy.
        if (const auto missing = walk_.missing(parsed->flow, now); missing != 0 && missing >= held.missing) {
            drop(Drop::out_no_sa, *parsed);
            continue;
        }
        Egress e;
        e.by = held.by;
        e.whole = held.datagram.get();
        e.socket = held.socket;
        e.retry = &held;
        e.refragment = held.refragment;
        e.refragment_id = held.refragment_id;
        if (const auto why = dispatch(e, *parsed); why != Drop::none)
            drop(why, *parsed);
    }
    for (; budget > 0 && !queue_.empty(); --budget) {
        auto q = std::move(queue_.front());
        queue_.pop_front();
        ingress(std::move(q));
    }
    return !queue_.empty() || !released_.empty();
}

void Choke::enqueue(Queued q)
{
    if (queue_.size() >= queue_limit)
        return drop(Drop::in_queue_full);
    queue_.push_back(std::move(q));
}

void Choke::ingress(Queued q)
{
    const auto parsed = parse_packet(q.packet.bytes());
    if (!parsed)
        return drop(parsed.error());
    Packet packet = *parsed;
    q.packet.narrow(0, packet.total);
    if (packet.family == Family::v4 && plain_checksum(q.packet.bytes().first((q.packet.bytes()[0] & 0x0fu) * 4u)) != 0)
        return drop(Drop::in_malformed, packet);
    if (!q.history.loopback() && martian(packet))
        return drop(Drop::in_malformed, packet);

    const bool local = is_local(*q.in, packet.destination);
    if (!local && !forwarding)
        return drop(Drop::in_not_local, packet);
    Fragmented came_as;
    const bool atomic = packet.fragment_header != 0 && !packet.is_fragment;   // RFC 6946: whole, but for the header
    if ((packet.is_fragment || (atomic && local)) && (local || transit_needs_whole()) && !reassemble(q, packet, came_as))
        return;
    if (!local)
        return forward(q, packet, came_as);

    if (const auto wrapping = walk_.wrapping(q.packet.bytes(), packet); wrapping != Walk::Wrapping::none) {
        const auto why = walk_.open(wrapping, q.packet, packet, q.history, now);
        if (why != Drop::none)
            return drop(why, packet);
        return enqueue(std::move(q));
    }
    const auto socket = sockets_.inbound(packet.flow);
    if (!sockets_.bypasses(socket, Direction::in))
        if (const auto why = walk_.check(Direction::in, packet, q.history, socket, now); why != Drop::none)
            return drop(why, packet);
    if (q.history.clear())
        ++walk_.counters.in_clear;
    if (packet.protocol == ip_proto::icmp || packet.protocol == ip_proto::icmpv6)
        learn_path_mtu(*q.in, q.packet.bytes(), packet);
    deliver(q);
}

// Only what has passed here is admitted to lwIP's transports: raw_input, which every local packet crosses, checks it.
void Choke::deliver(Queued& q)
{
    const bool v6 = (q.packet.bytes()[0] >> 4) == 6;
    admitted_ = q.packet.get();
    answering_protected_ = q.history.secured();
    if (v6)
        ip6_input(q.packet.release(), &q.in->lwip);
    else
        ip4_input(q.packet.release(), &q.in->lwip);
    admitted_ = nullptr;
    answering_protected_ = false;
}

// False: not complete yet, or dropped.
bool Choke::reassemble(Queued& q, Packet& packet, Fragmented& came_as)
{
    auto outcome = reassembly_.add(q.packet.bytes(), packet, q.history.provenance(), now);
    for (auto n = outcome.evicted; n > 0; --n)
        drop(Drop::frag_limit);
    if (outcome.drop != Drop::none)
        drop(outcome.drop, packet);
    if (!outcome.datagram)
        return false;
    q.packet = pool_.copy({outcome.datagram.get(), outcome.size});
    if (!q.packet) {
        drop(Drop::in_no_buffer);
        return false;
    }
    const auto parsed = parse_packet(q.packet.bytes());
    if (!parsed) {
        drop(parsed.error());
        return false;
    }
    packet = *parsed;
    came_as = {outcome.largest_fragment, outcome.id};
    return true;
}

bool Choke::is_local(const Interface& in, const Address& destination) const
{
    if (destination.is_multicast() || in.is_broadcast(destination) || in.owns(destination))
        return true;
    return !destination.is_link_local() && is_our_address(destination);
}

bool Choke::is_our_address(const Address& a) const
{
    return std::any_of(interfaces_.begin(), interfaces_.end(), [&](const auto& i) { return i->up() && i->owns(a); });
}

// A rule that names ports must see the ports: then transit fragments are put together first (design §3).
bool Choke::transit_needs_whole() const
{
    return engine_.selects_by_port(Direction::fwd) || engine_.selects_by_port(Direction::in) ||
           engine_.selects_by_port(Direction::out);
}

void Choke::forward(Queued& q, Packet& packet, const Fragmented& came_as)
{
    const MutableBytes bytes = q.packet.bytes();
    if (packet.destination.is_link_local() || packet.source.is_link_local() || packet.source.is_unspecified() ||
        (q.packet.get()->flags & (PBUF_FLAG_LLBCAST | PBUF_FLAG_LLMCAST)) != 0)
        return drop(Drop::in_not_local, packet);
    const bool carries_ports = packet.protocol == ip_proto::tcp || packet.protocol == ip_proto::udp ||
                               packet.protocol == ip_proto::icmp || packet.protocol == ip_proto::icmpv6;
    if (carries_ports && !packet.flow.has_ports && transit_needs_whole())
        return drop(Drop::fwd_port_fragment, packet);
    if (const auto why = walk_.check(Direction::fwd, packet, q.history, 0, now); why != Drop::none)
        return drop(why, packet);
    if (packet.hop_limit <= 1) {   // after policy: what it refuses gets no answer
        send_icmp_error(q, packet, {11, 0, 3, 0, 0});
        return drop(Drop::fwd_ttl, packet);
    }

    const std::size_t hop_limit_at = packet.family == Family::v4 ? 8 : 7;
    bytes[hop_limit_at] = --packet.hop_limit;
    if (packet.family == Family::v4)
        set_ipv4_checksum(bytes.first((bytes[0] & 0x0fu) * 4u));
    Egress e;
    e.whole = q.packet.get();
    e.from = &q;
    e.refragment = came_as.largest;
    e.refragment_id = came_as.id;
    if (const auto why = dispatch(e, packet); why != Drop::none)
        return drop(why, packet);
    ++walk_.counters.forwarded;
}

void Choke::tick()
{
    const auto expired = [this](Bytes first, std::uint64_t provenance) { report_timeout(first, provenance); };
    for (auto n = reassembly_.expire(now, expired); n > 0; --n)
        drop(Drop::frag_timeout);
}

// RFC 1122 §3.3.2, RFC 8200 §4.5. What came protected is not quoted to anybody.
void Choke::report_timeout(Bytes first_fragment, std::uint64_t provenance)
{
    const auto parsed = parse_packet(first_fragment);
    if (provenance != 0 || !parsed || !is_our_address(parsed->destination))
        return;
    Interface* towards = route(parsed->source);
    if (towards == nullptr)
        return;
    if (Queued about{pool_.copy(first_fragment), towards, {}}; about.packet)
        send_icmp_error(about, *parsed, {11, 1, 3, 1, 0});
}

Time Choke::next_deadline() const
{
    return queue_.empty() && released_.empty() ? reassembly_.next_deadline() : now;
}

}  // namespace latchkey
