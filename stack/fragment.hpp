// SPDX-License-Identifier: BSD-2-Clause
// Our fragmenter (lwIP's rounds the last IPv4 fragment wrong) and our reassembly, both families, over spans.
#pragma once

#include "stack/packet.hpp"

#include <array>
#include <functional>
#include <memory>
#include <optional>

namespace latchkey {

// Cuts one datagram into fragments of at most mtu bytes, one at a time: header bytes and a view of the payload.
// IPv4 keeps the datagram's id and copies only options with the copy bit (RFC 791 §3.1). IPv6 inserts a fragment header
// with `id` after the unfragmentable part (RFC 8200 §4.5). A fragment is cut further, keeping its id and adding to its
// offset. A datagram that fits comes out as it is. Whether it may be cut at all (DF, IPv6 in transit) the caller knows.
class Fragmenter {
public:
    struct Piece {
        std::array<std::uint8_t, 256> header{};
        std::size_t header_size = 0;
        Bytes payload;
        std::size_t size() const { return header_size + payload.size(); }
    };

    // Errors: in_malformed; out_too_big when headers leave no room for 8 bytes per fragment, or are longer than Piece's.
    // The pieces view `datagram`, which must outlive them.
    static std::expected<Fragmenter, Drop> cut(Bytes datagram, std::size_t mtu, std::uint32_t id);
    bool next(Piece& piece);   // false: no more

private:
    Fragmenter() = default;
    Drop prepare(std::uint32_t id);
    void stamp(Piece& piece, bool last) const;

    Bytes datagram_;
    Packet packet_;
    std::array<std::uint8_t, 256> header_{};   // of the next piece; stamp() fills in what differs between pieces
    std::size_t header_size_ = 0;
    std::size_t mtu_ = 0;
    std::size_t start_ = 0, at_ = 0;           // where the payload starts and the next piece's does
    bool whole_ = false, first_ = true;
};

// Puts fragments together. The key is addresses, id, provenance and (IPv4) protocol, so that a clear fragment never
// completes a protected datagram (nor one protected by another SA). IPv6 leaves the protocol out: the next headers of
// fragments may differ, and that of the first one counts (RFC 8200 §4.5). Overlaps drop the whole datagram and what is
// still to come of it (RFC 5722); an exact duplicate is ignored. Bytes and time are bounded; the oldest datagram goes
// first.
class Reassembly {
public:
    struct Limits {
        std::size_t bytes = 4 * 1024 * 1024;   // held in all, buffers' real sizes
        std::size_t datagrams = 512;
        Time timeout_v4 = std::chrono::seconds(30);
        Time timeout_v6 = std::chrono::seconds(60);
    };
    struct Outcome {
        Drop drop = Drop::none;                       // why this fragment (and its datagram) was dropped
        std::unique_ptr<std::uint8_t[]> datagram;     // set when complete: contiguous, fragment fields removed
        std::size_t size = 0;
        std::size_t largest_fragment = 0;             // bytes of the largest fragment seen, header included
        std::uint32_t id = 0;                         // the datagram's fragment id, to cut it again in transit
        std::size_t evicted = 0;                      // other datagrams that made room for this one (frag_limit)
    };
    // For ICMP time exceeded, which RFC 1122 §3.3.2 and RFC 8200 §4.5 want if the first fragment came: that fragment as
    // it was received. Whether to answer one that was protected is for the caller to say.
    using Expired = std::function<void(Bytes first_fragment, std::uint64_t provenance)>;

    Reassembly() : Reassembly(Limits{}) {}
    explicit Reassembly(Limits limits);
    ~Reassembly();

    // packet: as parsed from view. provenance: 0 clear, else which SA protected the fragment. A packet that is no
    // fragment comes back alone, an atomic fragment without its fragment header (RFC 6946 §4). Time moves in expire().
    Outcome add(Bytes view, const Packet& packet, std::uint64_t provenance, Time now);
    std::size_t expire(Time now, const Expired& expired = {});   // returns how many datagrams timed out
    Time next_deadline() const;                                  // Time::max(): nothing is held
    std::size_t held_bytes() const;
    std::size_t held_datagrams() const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace latchkey
