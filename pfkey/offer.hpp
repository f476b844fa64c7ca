// SPDX-License-Identifier: BSD-2-Clause
// What this host offers of the list of algorithms: the rows that its transforms can run. Which those are can depend on
// the cryptographic library, so the engine is told (Engine::set_available).
#pragma once

#include "pfkey/algorithms.hpp"

#include <bitset>
#include <iterator>

namespace latchkey {

using AlgorithmSet = std::bitset<std::size(algorithms)>;   // by index in algorithms[]

inline AlgorithmSet runnable_algorithms()
{
    AlgorithmSet rows;
    for (std::size_t i = 0; i < rows.size(); ++i)
        rows[i] = algorithms[i].offered();
    return rows;
}

inline bool offers(const AlgorithmSet& rows, const Algorithm& row)
{
    return rows[static_cast<std::size_t>(&row - algorithms)];
}

}  // namespace latchkey
