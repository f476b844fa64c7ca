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
    // names one. SAs from or to 0.0.0.0 (::) come second. prefer_old: net.key.preferred_oldsa.
    Sa* outbound(std::uint8_t protocol, Mode mode, const Address& source, const Address& destination,
                 std::uint32_t reqid, bool prefer_old) const;

    bool encapsulates(const Address& destination, std::uint16_t port) const;   // is some SA in UDP to there?

    // What changes of an SA that is in the SAD and that it is found by.
    void set_state(Sa& sa, SaState state);
    void set_natt(Sa& sa, std::unique_ptr<NatTraversal> natt);

    // The SAs from source to destination, whatever their state; the first, and the next.
    Sa* any_between(std::uint8_t protocol, const Address& source, const Address& destination) const;
    Sa* next_between(const Sa& sa) const { return sa.peer_link.next; }

    // Cursor walk in a stable order that survives inserts and erases between steps (dump with back-pressure).
    // Starts with cursor 0; returns null at the end. filter: IP protocol or 0 for all.
    // `cursor` is the serial number of the SA returned last; serial numbers only grow.
    Sa* next(std::uint64_t& cursor, std::uint8_t protocol) const;
    std::uint64_t last_serial() const;

    // For changes that may be undone (batch.cpp), strictly in reverse order. An SA that was taken keeps its links, so
    // that it finds its old place again.
    std::unique_ptr<Sa> take(Sa& sa);             // as erase(), but its place in the walk stays free until settle()
    Sa& fill(std::unique_ptr<Sa> sa);             // into the place of its serial number, as the newest of its peer
    void put_back(std::unique_ptr<Sa> sa);        // as if it had never been taken
    void rewind(std::uint64_t serial);            // every SA above it has been taken: the numbers may be used again
    void settle();
    void set_aside(Sad& into);                    // everything, at once; serial numbers go on
    void bring_back(Sad& from);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace latchkey
