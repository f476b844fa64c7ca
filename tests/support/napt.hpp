// SPDX-License-Identifier: BSD-2-Clause
// A router between two segments that translates addresses and ports (NAPT, RFC 3022) of UDP over IPv4, as home routers
// do: it knows nothing of IPsec, forgets on request, and drops what it has no mapping for. Answers ARP on both sides.
#pragma once

#include "support/lab.hpp"

#include <map>

namespace latchkey::sim {

class Napt {
public:
    struct Side {
        unsigned segment;
        Address address;   // of the router; inside it is the hosts' gateway
    };
    Napt(Lab& lab, Side inside, Side outside);

    // Another port, or another address, for what comes from inside: as after a reboot of the router.
    void rebind();
    void rebind(const Address& outside);
    // What comes to this port from outside goes to a host inside.
    void forward_port(std::uint16_t outside, const Endpoint& inside);

    void learn(const Address& neighbour, const MacAddress& mac) { neighbours_[neighbour] = mac; }

    std::uint16_t mapped(const Endpoint& inside) const;   // 0: not yet
    std::size_t refused = 0;   // packets without a mapping, or of another protocol

private:
    void frame(unsigned segment, Bytes frame);
    void answer_arp(const Side& side, Bytes frame);
    void outward(Buffer packet);
    void inward(Buffer packet);
    void pass(const Side& to, const Address& hop, Buffer packet);
    static MacAddress mac_of(const Side& side);

    Lab& lab_;
    Side inside_, outside_;
    std::map<std::pair<Address, std::uint16_t>, std::uint16_t> out_;
    std::map<std::uint16_t, Endpoint> in_;
    std::map<Address, MacAddress> neighbours_;
    std::uint16_t next_port_ = 40000;
};

}   // namespace latchkey::sim
