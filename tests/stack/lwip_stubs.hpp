// SPDX-License-Identifier: BSD-2-Clause
// lwIP without the choke layer, for tests of the socket manager: the redirected functions are lwIP's own, the clock is
// a variable, and one interface loops everything back that is sent to its own addresses.
#pragma once

#include "pfkey/engine.hpp"
#include "stack/drops.hpp"

#include <cstdint>
#include <functional>

struct pbuf;

namespace latchkey::test {

// Deterministic, so that a failing run can be repeated.
class PinnedRng : public Rng {
public:
    void fill(MutableBytes out) override
    {
        for (auto& byte : out) {
            state_ = state_ * 6364136223846793005u + 1442695040888963407u;
            byte = static_cast<std::uint8_t>(state_ >> 56);
        }
    }

private:
    std::uint64_t state_ = 20240229;
};

// The one lwIP of the process, started at first use. Addresses: 127.0.0.1/8, ::1, 10.0.0.1/24, fd00::1/64 (MTU 1500).
class Loopback {
public:
    static Loopback& instance();

    void pump();                        // until nothing more is delivered; time stands still
    void advance(Time by);              // in steps of lwIP's timer, delivering what comes
    Time now() const { return now_; }

    std::uint64_t packets = 0;          // handed to lwIP's output
    std::function<bool(const pbuf*)> lose;           // true: this packet never arrives
    signed char output_error = 0;       // an err_t that every output answers with (and sends nothing)

private:
    Loopback();
    Time now_{1'000'000'000};
    friend std::uint32_t stub_now();
};

}  // namespace latchkey::test
