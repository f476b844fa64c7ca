// SPDX-License-Identifier: BSD-2-Clause
// ESP in UDP (RFC 3948) as bytes: the UDP header around an ESP packet, what a datagram to an encapsulation port is, and
// the checksums of transport packets that crossed a NAT. Used by the walk; knows no SAD and no clock.
#pragma once

#include "pfkey/sa.hpp"
#include "stack/packet.hpp"

namespace latchkey::natt {

inline constexpr std::size_t udp_header = 8;

// What a UDP datagram to an encapsulation port carries: ESP, unless it begins with the non-ESP marker (RFC 3948 §2.2)
// or is a keepalive (§2.3).
enum class Kind : std::uint8_t { other, keepalive, esp };
Kind kind_of(Bytes udp);

// Is the UDP header's length that of the datagram, and its checksum right? Zero is taken in both families (RFC 6936 §5:
// the ICV protects more than the checksum would).
bool sound(Bytes udp, const Address& source, const Address& destination);

// Writes the header in front of the finished ESP packet that fills the rest of `udp`. The checksum is zero over IPv4
// (RFC 3948 §2.1) and computed over IPv6, where a receiver may drop a datagram without one (RFC 8200 §8.1).
void write_header(MutableBytes udp, const NatTraversal& natt, const Address& source, const Address& destination);

// RFC 3948 §3.1.2: the checksum of a TCP, UDP or ICMPv6 message was made with the addresses before the NAT. With the
// original addresses it is checked and corrected (a wrong one stays wrong); without, or if `trust`, the ICV has
// vouched for the bytes and the checksum is made anew.
void repair_checksum(MutableBytes datagram, const NatTraversal& natt, bool trust);

}  // namespace latchkey::natt
