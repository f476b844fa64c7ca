// SPDX-License-Identifier: BSD-2-Clause
// ESP (RFC 4303) over spans: no lwIP, no clock. The walk prepares a job (it chose the SA and took a sequence number),
// a CipherBackend finishes a span of jobs, in order per SA; OpenSSL finishes at once.
#pragma once

#include "pfkey/engine.hpp"
#include "stack/ah.hpp"
#include "stack/drops.hpp"

#include <array>
#include <memory>
#include <span>

namespace latchkey {

// Outbound: `parts` (the payload, in pieces) are encrypted and copied in one pass into `out`, which begins with the ESP
// header and has esp_sealed_size() bytes, or extra_padding() more. What the payload leaves of it is padding, filled as
// the SA's flags say. The input is never written to (TCP keeps it for retransmission).
struct SealJob {
    Sa* sa = nullptr;
    std::uint64_t sequence = 0;           // taken from the SA by the walk
    std::uint8_t next_header = 0;
    std::array<Bytes, 4> parts{};         // more pieces than this: the walk gathers first
    std::size_t part_count = 0;
    MutableBytes out;
    Drop result = Drop::none;
};

// Inbound: `packet` begins with the ESP header and ends with the ICV; it is decrypted in place. The replay window is
// checked before the ICV and moved after it. On success `payload` is a view into `packet`.
struct OpenJob {
    Sa* sa = nullptr;
    MutableBytes packet;
    MutableBytes payload;
    std::uint8_t next_header = 0;
    Drop result = Drop::none;
};

class CipherBackend {
public:
    virtual ~CipherBackend() = default;
    virtual void seal(std::span<SealJob> jobs) = 0;
    virtual void open(std::span<OpenJob> jobs) = 0;
    virtual void seal(std::span<AhSealJob> jobs) = 0;
    virtual void open(std::span<AhOpenJob> jobs) = 0;

    // esp_randpad: so many bytes of `out` more than esp_sealed_size(), drawn anew for each packet: 0 to `limit`, in
    // steps that keep the packet whole. A limit below one step gives 0. esp_payload_room() with the same limit leaves
    // room for it.
    virtual std::size_t extra_padding(const Sa&, int) { return 0; }

    // Which algorithms this backend can run; for Engine::set_available().
    virtual Engine::AlgorithmSet available() const = 0;

    // For tests of peers (net.inet.ipsec.test_integrity): ESP and AH go out with a broken ICV.
    bool break_icv = false;
};

// The portable backend: OpenSSL EVP, one keyed context per SA made at first use, per packet only the IV is set.
// rng gives IVs for CBC; counter modes use the sequence number (RFC 4106 §3.1).
std::unique_ptr<CipherBackend> make_openssl_backend(Rng& rng);

// Size of the ESP packet (header, IV, payload, padding, trailer, ICV) for a payload of n bytes.
std::size_t esp_sealed_size(const Sa& sa, std::size_t n);

// The largest payload whose ESP packet fits `room` bytes, whatever extra_padding(sa, limit) is drawn; 0 if none does.
std::size_t esp_payload_room(const Sa& sa, std::size_t room, int limit = -1);

}  // namespace latchkey
