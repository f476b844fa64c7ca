// SPDX-License-Identifier: BSD-2-Clause
// The security association database: owns every SA; O(1) by SPI and by peer at any size.
#pragma once

#include "pfkey/sa.hpp"

#include <memory>
#include <vector>

namespace latchkey {

class Sad {
public:
    Sad();
    ~Sad();
    Sad(const Sad&) = delete;
    Sad& operator=(const Sad&) = delete;

    Result<Sa*> insert(std::unique_ptr<Sa> sa);   // exists: same protocol, destination and SPI
    void erase(Sa& sa);

    // Empties the SAD at once; freeing the SAs, which takes longer, is left to the caller. Serial numbers go on.
    std::vector<std::unique_ptr<Sa>> clear();

    // Puts `with` in the place of `old` (same protocol, destination and SPI); it counts as the newest of its peer.
    Sa& replace(Sa& old, std::unique_ptr<Sa> with);
    std::size_t size() const;
    std::size_t size(std::uint8_t protocol) const;   // 0: all

    // By (protocol, destination, SPI); for a multicast or wildcard destination see RFC 4301 §4.1.
    Sa* find(std::uint8_t protocol, const Address& destination, std::uint32_t spi) const;

    // The SA to send with: usable, same protocol and addresses, mode equal or any, and reqid equal if the request
    // names one. prefer_old: net.key.preferred_oldsa.
    Sa* outbound(std::uint8_t protocol, Mode mode, const Address& source, const Address& destination,
                 std::uint32_t reqid, bool prefer_old) const;

    // Any SA from source to destination, whatever its state; for deleting them all.
    Sa* any_between(std::uint8_t protocol, const Address& source, const Address& destination) const;

    // Cursor walk in a stable order that survives inserts and erases between steps (dump with back-pressure).
    // Starts with cursor 0; returns null at the end. filter: IP protocol or 0 for all.
    // `cursor` is the serial number of the SA returned last; serial numbers only grow.
    Sa* next(std::uint64_t& cursor, std::uint8_t protocol) const;
    std::uint64_t last_serial() const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace latchkey
