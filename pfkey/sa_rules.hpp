// SPDX-License-Identifier: BSD-2-Clause
// What SADB_GETSPI, SADB_ADD and SADB_UPDATE may say: from a parsed message to an SA, or the precise reason why not.
// Called by the handlers only; knows no tables.
#pragma once

#include "pfkey/message.hpp"
#include "pfkey/offer.hpp"

#include <memory>

namespace latchkey {

// The transforms as PF_KEY sees them.
struct SaProtocol {
    std::uint8_t protocol;
    std::uint32_t spi_min, spi_max;   // of legal SPIs (RFC 4303 §2.1: 0-255 are reserved; RFC 3173 §3.3: 16-bit CPI)
    std::uint32_t pick_max;           // the highest that GETSPI picks by itself, whatever the tunables say
};

inline constexpr SaProtocol sa_protocols[] = {
    {ip_proto::esp, 0x100, 0xffff'ffff, 0xffff'ffff},
    {ip_proto::ah, 0x100, 0xffff'ffff, 0xffff'ffff},
    {ip_proto::ipcomp, 1, 0xffff, 0xefff},
};

constexpr const SaProtocol& sa_protocol(std::uint8_t protocol)
{
    for (const auto& row : sa_protocols)
        if (row.protocol == protocol)
            return row;
    return sa_protocols[0];
}

// Source and destination of an SA or selector: families known and equal, prefixes within the family, same protocol.
Result<void> check_addresses(const AddressExt& source, const AddressExt& destination);

// What the message says of a NAT; null if it says nothing. NAT_T_TYPE is what counts: the other extensions mean nothing
// without it (as in Linux and FreeBSD), and a port that is absent or 0 is the one of RFC 3948, 4500. family: of the SA.
Result<std::unique_ptr<NatTraversal>> natt_of(const Message& message, std::uint8_t protocol, Family family);

// The SA without keys that GETSPI leaves behind; its SPI is the caller's.
Result<std::unique_ptr<Sa>> build_larval(const Message& message, std::uint8_t protocol);

// The SA that the message describes, mature. Larval and table state are the caller's.
Result<std::unique_ptr<Sa>> build_sa(const Message& message, std::uint8_t protocol, const AlgorithmSet& offered);

// A mature SA may get new limits, another place and other ports of a NAT, but neither other keys nor another identity:
// numbers would be used twice with one key, or packets in flight lost.
Result<void> check_update_of_mature(const Message& message, const Sa& sa);

}  // namespace latchkey
