// SPDX-License-Identifier: BSD-2-Clause
// The key socket as the runner sees it. FdChannel is the real one; tests bring their own.
#pragma once

#include "pfkey/wire.hpp"

#include <chrono>
#include <cstddef>

namespace latchkey::setkey {

class KeyChannel {
public:
    virtual ~KeyChannel() = default;

    // Hands one record over: 0, or an errno. EAGAIN: not now, receive first.
    virtual int send(Bytes record) = 0;

    // The next record: its size; 0: the other side is gone; or a negative errno. -EAGAIN: none came in time,
    // -ECANCELED: something else ended the waiting.
    virtual std::ptrdiff_t receive(MutableBytes room, std::chrono::milliseconds wait) = 0;
};

// A record-preserving descriptor: a key socket of a host. Owns it.
class FdChannel : public KeyChannel {
public:
    // `stop`: when it becomes readable, waiting for a record ends. Not owned; -1: none.
    explicit FdChannel(int fd, int stop = -1) : fd_(fd), stop_(stop) {}
    ~FdChannel() override;
    FdChannel(const FdChannel&) = delete;
    FdChannel& operator=(const FdChannel&) = delete;

    int send(Bytes record) override;
    std::ptrdiff_t receive(MutableBytes room, std::chrono::milliseconds wait) override;

private:
    int fd_;
    int stop_;
};

}  // namespace latchkey::setkey
