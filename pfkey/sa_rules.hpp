// SPDX-License-Identifier: BSD-2-Clause
// What SADB_ADD and SADB_UPDATE may say: from a parsed message to an SA, or the precise reason why not.
// Called by the handlers only; knows no tables.
#pragma once

#include "pfkey/message.hpp"

#include <memory>

namespace latchkey {

// The transforms as PF_KEY sees them.
struct SaProtocol {
    std::uint8_t protocol;
    std::uint32_t spi_min, spi_max;   // of legal SPIs (RFC 4303 §2.1: 0-255 are reserved; RFC 3173 §3.3: 16-bit CPI)
    std::uint32_t pick_max;           // the highest that GETSPI picks by itself, whatever the tunables say
    bool offered;                     // false: known, but this host has no transform for it yet
};

inline constexpr SaProtocol sa_protocols[] = {
    {ip_proto::esp, 0x100, 0xffff'ffff, 0xffff'ffff, true},
    {ip_proto::ah, 0x100, 0xffff'ffff, 0xffff'ffff, false},
    {ip_proto::ipcomp, 1, 0xffff, 0xefff, false},
};

constexpr const SaProtocol& sa_protocol(std::uint8_t protocol)
{
    for (const auto& row : sa_protocols)
        if (row.protocol == protocol)
            return row;
    return sa_protocols[0];
}

Result<void> check_offered(std::uint8_t protocol);

// Source and destination of an SA or selector: families known and equal, prefixes within the family, same protocol.
Result<void> check_addresses(const AddressExt& source, const AddressExt& destination);

// The SA that the message describes, mature. Larval and table state are the caller's.
Result<std::unique_ptr<Sa>> build_sa(const Message& message, std::uint8_t protocol);

// A mature SA may get new limits, but neither other keys nor another identity: numbers would be used twice with one
// key, or packets in flight lost.
Result<void> check_update_of_mature(const Message& message, const Sa& sa);

}  // namespace latchkey
