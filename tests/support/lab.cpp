// SPDX-License-Identifier: BSD-2-Clause
#include "support/lab.hpp"

#include <algorithm>
#include <cerrno>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace latchkey::sim {

namespace {

constexpr std::uint16_t tcp_port = 5555;
constexpr Time longest_timer = std::chrono::seconds(150);  // TIME-WAIT, reassembly, an unanswered ACQUIRE, ARP

int domain_of(Family family) { return family == Family::v6 ? AF_INET6 : AF_INET; }

void set_option(Instance& host, SocketId socket, int level, int name, int value)
{
    std::array<std::uint8_t, sizeof(value)> raw{};
    std::memcpy(raw.data(), &value, sizeof(value));
    REQUIRE(host.set_option(socket, level, name, raw).has_value());
}

std::uint32_t sum_of(Bytes bytes, std::uint32_t sum)
{
    for (std::size_t at = 0; at < bytes.size(); ++at)
        sum += at % 2 == 0 ? bytes[at] * 256u : bytes[at];
    return sum;
}

// RFC 768, RFC 8200 §8.1: over the pseudo-header as well.
std::uint16_t upper_checksum(const Address& from, const Address& to, std::uint8_t protocol, Bytes message)
{
    auto sum = sum_of(message, protocol + static_cast<std::uint32_t>(message.size()));
    sum = sum_of(to.bytes(), sum_of(from.bytes(), sum));
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(~sum);
}

}  // namespace

Buffer marked(std::size_t size)
{
    Buffer out(size);
    for (std::size_t i = 0; i < size; ++i)
        out[i] = static_cast<std::uint8_t>(marker[i % marker.size()]);
    return out;
}

Buffer bytes_of(const IpPacket& p)
{
    const bool v4 = p.source.is_v4(), fragment = p.more || p.offset != 0;
    const std::size_t head = v4 ? 20 : fragment ? 48 : 40;
    Buffer out(head + p.payload.size());
    wire::Writer w(out);
    if (v4) {
        w.put<std::uint8_t>(0x45);
        w.put<std::uint8_t>(p.traffic_class);
        w.put<std::uint16_t>(static_cast<std::uint16_t>(out.size()));
        w.put<std::uint16_t>(static_cast<std::uint16_t>(p.id));
        const unsigned flags = (p.dont_fragment ? 0x4000u : 0u) | (p.more ? 0x2000u : 0u);
        w.put<std::uint16_t>(static_cast<std::uint16_t>(flags | p.offset / 8));
        w.put<std::uint8_t>(p.hop_limit);
        w.put<std::uint8_t>(p.protocol);
        w.put<std::uint16_t>(0);
    } else {
        w.put<std::uint32_t>(0x60000000u | std::uint32_t{p.traffic_class} << 20);
        w.put<std::uint16_t>(static_cast<std::uint16_t>(out.size() - 40));
        w.put<std::uint8_t>(fragment ? ip_proto::fragment : p.protocol);
        w.put<std::uint8_t>(p.hop_limit);
    }
    w.put(p.source.bytes());
    w.put(p.destination.bytes());
    if (!v4 && fragment) {
        w.put<std::uint8_t>(p.protocol);
        w.put<std::uint8_t>(0);
        w.put<std::uint16_t>(static_cast<std::uint16_t>(p.offset | (p.more ? 1u : 0u)));
        w.put<std::uint32_t>(p.id);
    }
    w.put(p.payload);
    if (v4)
        set_ipv4_checksum(MutableBytes(out).first(20));
    return out;
}

Buffer udp_bytes(const Endpoint& from, const Endpoint& to, Bytes payload)
{
    Buffer out(8 + payload.size());
    wire::Writer w(out);
    w.put<std::uint16_t>(from.port);
    w.put<std::uint16_t>(to.port);
    w.put<std::uint16_t>(static_cast<std::uint16_t>(out.size()));
    w.put<std::uint16_t>(0);
    w.put(payload);
    const auto checksum = upper_checksum(from.address, to.address, ip_proto::udp, out);
    wire::set_field<std::uint16_t>(out, 6, checksum == 0 ? 0xffff : checksum);
    return out;
}

std::uint16_t icmpv6_checksum(const Address& from, const Address& to, Bytes message)
{
    return upper_checksum(from, to, ip_proto::icmpv6, message);
}

Buffer udp_packet(const Endpoint& from, const Endpoint& to, Bytes payload)
{
    return bytes_of({from.address, to.address, ip_proto::udp, udp_bytes(from, to, payload)});
}

MacAddress mac(unsigned host, unsigned port)
{
    return {0x02, 0, 0, 0, static_cast<std::uint8_t>(port), static_cast<std::uint8_t>(host + 1)};
}

Buffer frame_to(const MacAddress& to, Bytes packet)
{
    Buffer out(to.begin(), to.end());
    const bool v6 = !packet.empty() && packet[0] >> 4 == 6;
    for (const unsigned byte : {0x02u, 0u, 0u, 0u, 0u, 0xeeu, v6 ? 0x86u : 0x08u, v6 ? 0xddu : 0x00u})
        out.push_back(static_cast<std::uint8_t>(byte));
    out.insert(out.end(), packet.begin(), packet.end());
    return out;
}

Lab::Lab(std::uint64_t seed) : world(seed)
{
    world.sniff = [this](unsigned segment, Bytes frame) { sniff(segment, frame); };
}

Lab::~Lab()
{
    world.sniff = {};
    world.faults = {};
    for (const auto& [host, id] : sockets_)
        host->close(id);
    for (auto* host : hosts_)
        (void)setkey(world, *host, "flush; spdflush;");
    world.run(longest_timer);
    for (auto* host : hosts_)
        CHECK(host->buffers_in_use() == 0);
}

Instance& Lab::add(const std::vector<std::vector<std::string>>& addresses, const std::vector<unsigned>& segments,
                   const std::vector<RouteConfig>& routes, bool forwarding, std::size_t mtu)
{
    HostConfig config;
    config.forwarding = forwarding;
    config.routes = routes;
    config.interfaces.resize(addresses.size());
    for (std::size_t i = 0; i < addresses.size(); ++i) {
        config.interfaces[i].mtu = mtu;
        for (const auto& address : addresses[i])
            config.interfaces[i].addresses.push_back(prefix(address));
    }
    hosts_.push_back(&world.add(config, segments));
    return *hosts_.back();
}

void Lab::script(Instance& host, std::string_view text) { REQUIRE(setkey(world, host, text) == ""); }

SocketId Lab::udp(Instance& host, Family family, std::uint16_t port)
{
    const auto s = host.open(domain_of(family), SOCK_DGRAM, 0);
    REQUIRE(s.has_value());
    sockets_.emplace_back(&host, *s);
    if (family == Family::v6)
        set_option(host, *s, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    REQUIRE(host.bind(*s, {Address::any(family), port, 0}).has_value());
    set_option(host, *s, SOL_SOCKET, SO_RCVBUF, 4 * 1024 * 1024);
    return *s;
}

SocketId Lab::ping_socket(Instance& host, Family family)
{
    const int protocol = family == Family::v6 ? int{IPPROTO_ICMPV6} : int{IPPROTO_ICMP};
    const auto s = host.open(domain_of(family), SOCK_DGRAM, protocol);
    REQUIRE(s.has_value());
    sockets_.emplace_back(&host, *s);
    return *s;
}

SocketId Lab::tcp(Instance& host, Family family)
{
    const auto s = host.open(domain_of(family), SOCK_STREAM, 0);
    REQUIRE(s.has_value());
    sockets_.emplace_back(&host, *s);
    return *s;
}

void Lab::close(Instance& host, SocketId id)
{
    std::erase(sockets_, std::pair(&host, id));
    host.close(id);
}

int Lab::send(Instance& host, SocketId from, const Address& to, std::uint16_t port, Bytes payload)
{
    const auto sent = host.send_datagram(from, {to, port, 0}, payload);
    return sent ? 0 : sent.error();
}

bool Lab::arrives(Instance& host, SocketId at, Bytes payload, Time limit)
{
    Buffer got;
    const auto came = [&] { return host.receive_datagram(at, sender, got) && std::ranges::equal(got, payload); };
    return world.run_until(came, limit);
}

std::size_t Lab::waiting(Instance& host, SocketId at)
{
    std::size_t count = 0;
    for (Buffer got; host.receive_datagram(at, sender, got);)
        ++count;
    return count;
}

bool Lab::ping(Instance& from, const Address& to, std::size_t size, Time limit)
{
    const bool v6 = to.is_v6();
    const auto s = ping_socket(from, to.family());
    Buffer echo{static_cast<std::uint8_t>(v6 ? 128 : 8), 0, 0, 0, 0, 0, 0, 1};
    const auto body = marked(size);
    echo.insert(echo.end(), body.begin(), body.end());
    Buffer got;
    const bool answered = send(from, s, to, 0, echo) == 0 &&
                          world.run_until([&] { return from.receive_datagram(s, sender, got); }, limit);
    close(from, s);
    return answered && got.size() == echo.size() && got[0] == (v6 ? 129 : 0) &&
           std::equal(got.begin() + 8, got.end(), body.begin());
}

bool Lab::transfer(Instance& from, Instance& to, const Address& target, std::size_t bytes, Time limit,
                   const std::function<void(std::size_t)>& progress)
{
    const auto listener = tcp(to, target.family()), client = tcp(from, target.family());
    REQUIRE(to.bind(listener, {Address::any(target.family()), tcp_port, 0}).has_value());
    REQUIRE(to.listen(listener, 4).has_value());
    REQUIRE(from.connect(client, {target, tcp_port, 0}) == SysResult<>(std::unexpected(EINPROGRESS)));

    const auto data = marked(bytes);
    Buffer got, chunk(65536);
    std::size_t sent = 0;
    bool up = false, finished = false;
    SocketId server = 0;
    const auto push = [&] {
        up = up || (from.take_events(client) & socket_event::connected) != 0;
        while (up && sent < data.size()) {
            const auto n = from.write(client, Bytes(data).subspan(sent));
            if (!n)
                return;
            sent += *n;
            if (sent == data.size())
                (void)from.shutdown(client, SHUT_WR);
        }
    };
    const auto pull = [&] {
        if (server == 0)
            if (const auto accepted = to.accept(listener))
                server = *accepted;
        while (server != 0 && !finished) {
            const auto n = to.read(server, chunk);
            if (!n)
                return;
            finished = *n == 0;
            got.insert(got.end(), chunk.begin(), chunk.begin() + static_cast<std::ptrdiff_t>(*n));
            if (progress)
                progress(got.size());
        }
    };
    world.run_until([&] { return push(), pull(), finished; }, limit);
    close(from, client);
    if (server != 0)
        to.close(server);
    close(to, listener);
    world.run(std::chrono::milliseconds(200));
    return finished && got == data;
}

void Lab::forget()
{
    frames.clear();
    counts_.clear();
}

void Lab::sniff(unsigned segment, Bytes frame)
{
    frames.push_back({segment, world.now(), {frame.begin(), frame.end()}});
    const auto s = look(frame);
    if (!s.ip || s.link_control)
        return;
    auto& count = counts_[segment];
    ++(s.esp ? count.esp : count.clear);
    count.fragments += s.fragment ? 1 : 0;
    count.largest = std::max(count.largest, s.ip_size);
    if (std::search(frame.begin(), frame.end(), marker.begin(), marker.begin() + 8) != frame.end())
        ++count.marked;
}

std::vector<Buffer> Lab::packets(unsigned segment, const std::function<bool(const Packet&)>& question) const
{
    std::vector<Buffer> out;
    for (const auto& seen : frames) {
        if (seen.segment != segment || !look(seen.frame).ip)
            continue;
        if (const auto packet = parse_packet(seen.packet()); packet && question(*packet)) {
            const auto bytes = seen.packet().first(packet->total);
            out.emplace_back(bytes.begin(), bytes.end());
        }
    }
    return out;
}

std::vector<Buffer> icmp_messages(const Lab& lab, unsigned segment, Family family, std::uint8_t type)
{
    return lab.packets(segment, [&](const Packet& p) {
        return p.family == family && p.protocol == (family == Family::v4 ? ip_proto::icmp : ip_proto::icmpv6) &&
               p.flow.has_ports && p.flow.source_port == type;
    });
}

}  // namespace latchkey::sim
