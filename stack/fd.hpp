// SPDX-License-Identifier: BSD-2-Clause
// An owned file descriptor. For the rim of the host: wires, door, daemon.
#pragma once

#include <unistd.h>
#include <utility>

namespace latchkey {

class Fd {
public:
    Fd() = default;
    explicit Fd(int owned) : fd_(owned) {}
    Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Fd& operator=(Fd&& other) noexcept
    {
        if (this != &other) {
            reset();
            fd_ = std::exchange(other.fd_, -1);
        }
        return *this;
    }
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    ~Fd() { reset(); }

    explicit operator bool() const { return fd_ >= 0; }
    int get() const { return fd_; }
    void reset()
    {
        if (fd_ >= 0)
            ::close(std::exchange(fd_, -1));
    }

private:
    int fd_ = -1;
};

}  // namespace latchkey
