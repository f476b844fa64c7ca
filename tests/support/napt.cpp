// SPDX-License-Identifier: BSD-2-Clause
#include "support/napt.hpp"

#include <algorithm>

namespace latchkey::sim {

namespace {

constexpr std::size_t ethernet = 14, ipv4 = 20;
constexpr std::size_t source_at = 12, destination_at = 16, ttl_at = 8;
constexpr std::size_t arp_operation = 20, arp_sender_mac = 22, arp_sender = 28, arp_target = 38, arp_size = 42;

void put(MutableBytes out, std::size_t at, Bytes bytes)
{
    std::ranges::copy(bytes, out.subspan(at).begin());
}

Address v4_at(Bytes bytes, std::size_t at)
{
    return Address::v4(bytes.subspan(at).first<4>());
}

}   // namespace

Napt::Napt(Lab& lab, Side inside, Side outside) : lab_(lab), inside_(inside), outside_(outside)
{
    lab_.world.sniff = [this, before = lab_.world.sniff](unsigned segment, Bytes bytes) {
        before(segment, bytes);
        frame(segment, bytes);
    };
}

void Napt::rebind()
{
    out_.clear();
    in_.clear();
}

void Napt::rebind(const Address& outside)
{
    rebind();
    outside_.address = outside;
}

void Napt::forward_port(std::uint16_t outside, const Endpoint& inside)
{
    in_[outside] = inside;
    out_[{inside.address, inside.port}] = outside;
}

std::uint16_t Napt::mapped(const Endpoint& inside) const
{
    const auto at = out_.find({inside.address, inside.port});
    return at == out_.end() ? 0 : at->second;
}

MacAddress Napt::mac_of(const Side& side)
{
    return {0x02, 0, 0, 0xaa, 0, static_cast<std::uint8_t>(side.segment)};
}

void Napt::frame(unsigned segment, Bytes frame)
{
    if (segment != inside_.segment && segment != outside_.segment)
        return;
    const Side& side = segment == inside_.segment ? inside_ : outside_;
    const auto type = wire::field<std::uint16_t>(frame, 12);
    if (type == 0x0806 && frame.size() >= arp_size)
        return answer_arp(side, frame);
    const auto me = mac_of(side);
    if (type != 0x0800 || frame.size() < ethernet + ipv4 || !std::equal(me.begin(), me.end(), frame.begin()))
        return;
    const auto parsed = parse_packet(frame.subspan(ethernet));
    if (!parsed)
        return;
    const auto bytes = frame.subspan(ethernet, parsed->total);
    Buffer packet(bytes.begin(), bytes.end());
    if (parsed->protocol != ip_proto::udp || parsed->is_fragment || parsed->payload != ipv4 || packet[ttl_at] <= 1) {
        ++refused;
        return;
    }
    --packet[ttl_at];
    segment == inside_.segment ? outward(std::move(packet)) : inward(std::move(packet));
}

void Napt::answer_arp(const Side& side, Bytes frame)
{
    constexpr std::uint16_t request = 1, reply = 2;
    MacAddress sender;
    std::copy_n(frame.begin() + arp_sender_mac, sender.size(), sender.begin());
    neighbours_[v4_at(frame, arp_sender)] = sender;
    if (wire::field<std::uint16_t>(frame, arp_operation) != request || v4_at(frame, arp_target) != side.address)
        return;
    Buffer out(frame.begin(), frame.begin() + arp_size);
    const auto me = mac_of(side);
    put(out, 0, sender);
    put(out, 6, me);
    wire::set_field<std::uint16_t>(out, arp_operation, reply);
    put(out, 32, sender);
    put(out, arp_target, v4_at(frame, arp_sender).bytes());
    put(out, arp_sender_mac, me);
    put(out, arp_sender, side.address.bytes());
    lab_.world.inject(side.segment, out);
}

// RFC 3022 §4.1: the address and port of the header, and the checksums over them.
void Napt::outward(Buffer packet)
{
    const Endpoint from{v4_at(packet, source_at), wire::field<std::uint16_t>(packet, ipv4), 0};
    auto& port = out_[{from.address, from.port}];
    if (port == 0)
        port = next_port_++;
    in_[port] = from;
    put(packet, source_at, outside_.address.bytes());
    wire::set_field<std::uint16_t>(packet, ipv4, port);
    const Address to = v4_at(packet, destination_at);
    pass(outside_, to, std::move(packet));
}

void Napt::inward(Buffer packet)
{
    const auto at = in_.find(wire::field<std::uint16_t>(packet, ipv4 + 2));
    if (v4_at(packet, destination_at) != outside_.address || at == in_.end()) {
        ++refused;
        return;
    }
    const Endpoint to = at->second;
    put(packet, destination_at, to.address.bytes());
    wire::set_field<std::uint16_t>(packet, ipv4 + 2, to.port);
    pass(inside_, to.address, std::move(packet));
}

void Napt::pass(const Side& to, const Address& hop, Buffer packet)
{
    set_ipv4_checksum(MutableBytes(packet).first(ipv4));
    const auto udp = MutableBytes(packet).subspan(ipv4);
    if (wire::field<std::uint16_t>(udp, 6) != 0) {
        wire::set_field<std::uint16_t>(udp, 6, 0);
        const auto checksum =
            upper_checksum(udp, v4_at(packet, source_at), v4_at(packet, destination_at), ip_proto::udp);
        wire::set_field<std::uint16_t>(udp, 6, checksum == 0 ? 0xffff : checksum);
    }
    const auto known = neighbours_.find(hop);
    const auto frame =
        frame_to(known == neighbours_.end() ? MacAddress{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} : known->second, packet);
    lab_.frames.push_back({to.segment, lab_.world.now(), frame});
    lab_.world.inject(to.segment, frame);
}

}   // namespace latchkey::sim
