// SPDX-License-Identifier: BSD-2-Clause
// Packet buffers: an RAII owner of one lwIP pbuf, and the pool that our own pbufs come from. Pool buffers are contiguous,
// have room in front for link and IP headers, and come from bounded free lists, so that a packet costs no malloc.
#pragma once

#include "pfkey/wire.hpp"

#include <cstddef>
#include <memory>
#include <utility>

struct pbuf;

namespace latchkey {

class Pbuf {
public:
    Pbuf() = default;
    explicit Pbuf(pbuf* owned) : p_(owned) {}
    Pbuf(Pbuf&& other) noexcept : p_(std::exchange(other.p_, nullptr)) {}
    Pbuf& operator=(Pbuf&& other) noexcept
    {
        if (this != &other) {
            reset();
            p_ = std::exchange(other.p_, nullptr);
        }
        return *this;
    }
    Pbuf(const Pbuf&) = delete;
    Pbuf& operator=(const Pbuf&) = delete;
    ~Pbuf() { reset(); }

    static Pbuf share(pbuf* borrowed);      // takes a reference of its own

    explicit operator bool() const { return p_ != nullptr; }
    pbuf* get() const { return p_; }
    pbuf* release() { return std::exchange(p_, nullptr); }
    void reset();

    bool contiguous() const;                // one segment
    MutableBytes bytes() const;             // of the first segment
    std::size_t size() const;               // of all segments

    // For a contiguous buffer: the packet is now bytes()[at, at + n).
    void narrow(std::size_t at, std::size_t n);

private:
    pbuf* p_ = nullptr;
};

class PacketPool {
public:
    static constexpr std::size_t headroom = 128;         // link header, and what lwIP puts in front when it answers in place
    static constexpr std::size_t max_packet = 65535 + 16;

    explicit PacketPool(std::size_t limit_bytes = 64u * 1024 * 1024);
    ~PacketPool();                                       // every buffer must have come back
    PacketPool(const PacketPool&) = delete;
    PacketPool& operator=(const PacketPool&) = delete;

    // A contiguous pbuf of `size` bytes (at most max_packet), content undefined; empty when the limit is reached.
    Pbuf allocate(std::size_t size);
    Pbuf copy(Bytes data);
    Pbuf gather(const pbuf* chain);                      // one contiguous copy of a chain
    std::size_t in_use() const;                          // bytes of buffers that are out

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace latchkey
