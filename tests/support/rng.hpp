// SPDX-License-Identifier: BSD-2-Clause
// Numbers that look random and are the same in every run. For tests, fuzz targets and benchmarks.
#pragma once

#include "pfkey/engine.hpp"

namespace latchkey::test {

class SequenceRng : public Rng {
public:
    explicit SequenceRng(std::uint64_t start = 0) : state_(start) {}

    void fill(MutableBytes out) override
    {
        for (auto& byte : out)
            byte = static_cast<std::uint8_t>(mix(++state_));
    }

private:
    std::uint64_t state_;
};

}  // namespace latchkey::test
