// SPDX-License-Identifier: BSD-2-Clause
// A network interface of the host: one lwIP netif on one wire, with its addresses.
#pragma once

#include "pfkey/address.hpp"
#include "pfkey/policy.hpp"

#include "lwip/netif.h"

#include <functional>
#include <string>
#include <vector>

namespace latchkey {

struct Interface {
    netif lwip{};
    unsigned index = 0;                  // 1.., also lwIP's netif index and IPv6 zone
    std::string name;                    // "lo", "net0", ...
    unsigned port = 0;                   // the wire it is on; aliases (a second IPv4 address) share one
    bool alias = false;
    bool loopback = false;
    std::vector<Prefix> addresses;       // the IPv6 link-local one included
    std::function<void(Bytes)> transmit; // an Ethernet frame
    std::uint64_t frames_in = 0, frames_out = 0, bytes_in = 0, bytes_out = 0;

    bool up() const { return netif_is_up(&lwip) != 0; }
    std::size_t mtu() const { return lwip.mtu; }
    bool owns(const Address& a) const
    {
        for (const auto& mine : addresses)
            if (mine.address == a)
                return true;
        return false;
    }
    bool is_broadcast(const Address& a) const;         // limited or directed
    const Address* source_for(Family family) const;    // an address to send errors from; prefers global
};

}  // namespace latchkey
