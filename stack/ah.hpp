// SPDX-License-Identifier: BSD-2-Clause
// AH (RFC 4302) over one contiguous datagram: no lwIP, no clock. The walk makes room for the header and gives the
// sequence number; AH fills the header and checks it, with every mutable field taken as zero (RFC 4302 §3.3.3.1).
#pragma once

#include "pfkey/sa.hpp"
#include "stack/drops.hpp"

namespace latchkey {

class CipherBackend;

// net.inet.ipsec.ah_cleartos and ah_offsetmask: other values than these are for peers of RFC 1826.
struct AhRules {
    bool clear_tos = true;
    std::uint16_t offset_mask = 0;
};

// Bytes of the AH of this SA in a packet of this family, the ICV padded (IPv4: to 4 bytes, IPv6: to 8; RFC 4302 §2.2).
std::size_t ah_size(const Sa& sa, Family family);

// The AH to be written begins at `at`; what is before it is the finished IP header (with options or extension headers,
// protocol and lengths as they go out, no further IP header), what is behind it the payload.
struct AhSealJob {
    Sa* sa = nullptr;
    std::uint64_t sequence = 0;
    std::uint8_t next_header = 0;
    MutableBytes datagram;
    std::size_t at = 0;
    AhRules rules;
    Drop result = Drop::none;
};

// Nothing is moved or changed but the replay window. On success `size` bytes at `at` are the AH and may be cut out.
struct AhOpenJob {
    Sa* sa = nullptr;
    MutableBytes datagram;
    std::size_t at = 0;
    AhRules rules;
    std::size_t size = 0;
    std::uint8_t next_header = 0;
    Drop result = Drop::none;
};

}  // namespace latchkey
