// SPDX-License-Identifier: BSD-2-Clause
// When the limits of an SA or a policy are reached (RFC 2367 §2.3.3). Pure functions of the SA and the time; the engine
// acts on them. The last sequence number is a limit too (RFC 4303 §3.3.3).
#pragma once

#include "pfkey/sa.hpp"

namespace latchkey {

bool hard_reached(const Sa& sa, Time now);
bool soft_reached(const Sa& sa, Time now);

// Would a packet of `bytes` go beyond the hard limit of bytes or packets?
bool hard_exceeded_by(const Sa& sa, std::size_t bytes);

// The next moment at which a limit in time is reached; Time::max() if there is none.
Time next_limit(const Sa& sa, std::uint64_t larval_seconds);

// The moment at which a policy expires if it is not used until then; Time::max() if never.
Time next_limit(const Policy& policy);

}  // namespace latchkey
