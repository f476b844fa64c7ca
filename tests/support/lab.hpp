// SPDX-License-Identifier: BSD-2-Clause
// A world with what most tests of whole hosts need: sockets that are closed at the end, a record of what was on the
// wire, packets put together by hand, and the check that no packet buffer stays out.
#pragma once

#include "stack/packet.hpp"
#include "support/script.hpp"

#include <map>

namespace latchkey::sim {

using Buffer = std::vector<std::uint8_t>;

inline Address ip(std::string_view text) { return *Address::parse(text); }
inline Prefix prefix(std::string_view text) { return *Prefix::parse(text); }
inline RouteConfig via(std::string_view to, std::string_view gateway) { return {prefix(to), ip(gateway), ""}; }

// Every payload that a test sends carries it, so that a sniffer can tell whether one was readable.
inline constexpr std::string_view marker = "CLEARTEXT-MARKER";
Buffer marked(std::size_t size);

// An IP packet by hand. Both families; a fragment header appears in IPv6 when it is a fragment.
struct IpPacket {
    Address source, destination;
    std::uint8_t protocol = ip_proto::udp;
    Buffer payload{};
    std::uint8_t hop_limit = 64, traffic_class = 0;
    bool dont_fragment = false;
    std::uint32_t id = 0x4711;
    std::size_t offset = 0;
    bool more = false;
};
Buffer bytes_of(const IpPacket& packet);
// The UDP header and payload, with a right checksum.
Buffer udp_bytes(const Endpoint& from, const Endpoint& to, Bytes payload);
std::uint16_t icmpv6_checksum(const Address& from, const Address& to, Bytes message);  // of one whose field is 0
Buffer udp_packet(const Endpoint& from, const Endpoint& to, Bytes payload);

MacAddress mac(unsigned host, unsigned port = 0);  // as World gives them, hosts in the order of World::add()
Buffer frame_to(const MacAddress& to, Bytes packet);

struct Seen {
    unsigned segment;
    Time at;
    Buffer frame;
    Bytes packet() const { return Bytes(frame).subspan(14); }
};

struct Count {
    std::size_t esp = 0, clear = 0, marked = 0, fragments = 0, largest = 0;  // IP packets; link control is not counted
};

class Lab {
public:
    explicit Lab(std::uint64_t seed = 1);
    ~Lab();  // closes the sockets, waits until every timer is through, checks that no packet buffer is out
    Lab(const Lab&) = delete;
    Lab& operator=(const Lab&) = delete;

    World world;

    Instance& add(const std::vector<std::vector<std::string>>& addresses, const std::vector<unsigned>& segments,
                  const std::vector<RouteConfig>& routes = {}, bool forwarding = false, std::size_t mtu = 1500);
    void script(Instance& host, std::string_view text);  // must be accepted

    SocketId udp(Instance& host, Family family, std::uint16_t port);
    SocketId ping_socket(Instance& host, Family family);
    SocketId tcp(Instance& host, Family family);
    void close(Instance& host, SocketId id);
    int send(Instance& host, SocketId from, const Address& to, std::uint16_t port, Bytes payload);  // errno, 0: sent

    // Does exactly this datagram come within the time? The latest sender is kept.
    bool arrives(Instance& host, SocketId at, Bytes payload, Time limit = std::chrono::seconds(5));
    std::size_t waiting(Instance& host, SocketId at);  // how many datagrams are there; takes them
    Endpoint sender;

    bool ping(Instance& from, const Address& to, std::size_t size, Time limit = std::chrono::seconds(5));

    // A whole TCP transfer; `progress` is called with the bytes that have come. True: every byte came, in order.
    bool transfer(Instance& from, Instance& to, const Address& target, std::size_t bytes, Time limit,
                  const std::function<void(std::size_t)>& progress = {});

    // The wire, since the last forget().
    std::vector<Seen> frames;
    Count& on(unsigned segment) { return counts_[segment]; }
    void forget();
    // IP packets on a segment that the question fits, oldest first.
    std::vector<Buffer> packets(unsigned segment, const std::function<bool(const Packet&)>& question) const;

private:
    void sniff(unsigned segment, Bytes frame);

    std::vector<Instance*> hosts_;
    std::vector<std::pair<Instance*, SocketId>> sockets_;
    std::map<unsigned, Count> counts_;
};

// ICMP messages of this type on a segment (v4 or v6 by the type's family).
std::vector<Buffer> icmp_messages(const Lab& lab, unsigned segment, Family family, std::uint8_t type);

}  // namespace latchkey::sim
