// SPDX-License-Identifier: BSD-2-Clause
// Address <-> lwIP's ip_addr_t (both keep network byte order).
#pragma once

#include "pfkey/address.hpp"

#include "lwip/ip_addr.h"

namespace latchkey {

inline Address from_lwip(const ip4_addr_t& a)
{
    std::array<std::uint8_t, 4> raw{};
    std::memcpy(raw.data(), &a.addr, raw.size());
    return Address::v4(raw);
}

inline Address from_lwip(const ip6_addr_t& a)
{
    std::array<std::uint8_t, 16> raw{};
    std::memcpy(raw.data(), a.addr, raw.size());
    return Address::v6(raw);
}

inline Address from_lwip(const ip_addr_t& a)
{
    return IP_IS_V6_VAL(a) ? from_lwip(a.u_addr.ip6) : from_lwip(a.u_addr.ip4);
}

inline ip4_addr_t to_lwip4(const Address& a)
{
    ip4_addr_t out{};
    std::memcpy(&out.addr, a.bytes().data(), sizeof(out.addr));
    return out;
}

// zone: the netif index of a scoped address, 0 for none.
inline ip6_addr_t to_lwip6(const Address& a, unsigned zone = 0)
{
    ip6_addr_t out{};
    std::memcpy(out.addr, a.bytes().data(), sizeof(out.addr));
    out.zone = static_cast<u8_t>(zone);
    return out;
}

inline ip_addr_t to_lwip(const Address& a, unsigned zone = 0)
{
    ip_addr_t out{};
    if (a.is_v6()) {
        out.u_addr.ip6 = to_lwip6(a, zone);
        out.type = IPADDR_TYPE_V6;
    } else {
        if (a.is_v4())
            out.u_addr.ip4 = to_lwip4(a);
        out.type = IPADDR_TYPE_V4;
    }
    return out;
}

}  // namespace latchkey
