// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/lifetimes.hpp"

#include <algorithm>

namespace latchkey {

namespace {

// An eighth of the numbers is left to a key manager for rekeying.
std::uint64_t soft_sequence(const Sa& sa)
{
    return sa.last_sequence() - sa.last_sequence() / 8;
}

bool sequence_reached(const Sa& sa, std::uint64_t limit)
{
    return sa.sequence >= limit && !sa.may_cycle();
}

Time time_limit(const Sa& sa, const Lifetime& limit)
{
    Time at = Time::max();
    if (limit.addtime != 0)
        at = after_seconds(sa.created, limit.addtime);
    if (limit.usetime != 0 && sa.first_use != Time{0})
        at = std::min(at, after_seconds(sa.first_use, limit.usetime));
    return at;
}

bool reached(const Sa& sa, const Lifetime& limit, Time now)
{
    return (limit.bytes != 0 && sa.current.bytes >= limit.bytes) ||
           (limit.allocations != 0 && sa.current.allocations >= limit.allocations) || time_limit(sa, limit) <= now;
}

}  // namespace

bool hard_reached(const Sa& sa, Time now)
{
    return reached(sa, sa.hard, now) || sequence_reached(sa, sa.last_sequence());
}

bool soft_reached(const Sa& sa, Time now)
{
    return reached(sa, sa.soft, now) || sequence_reached(sa, soft_sequence(sa));
}

bool hard_exceeded_by(const Sa& sa, std::size_t bytes)
{
    const auto& limit = sa.hard;
    const bool too_many_bytes =
        limit.bytes != 0 && (sa.current.bytes >= limit.bytes || bytes > limit.bytes - sa.current.bytes);
    return too_many_bytes || (limit.allocations != 0 && sa.current.allocations >= limit.allocations);
}

Time next_limit(const Sa& sa, std::uint64_t larval_seconds)
{
    if (sa.state == SaState::larval)
        return after_seconds(sa.created, larval_seconds);
    const Time hard = time_limit(sa, sa.hard);
    return sa.state == SaState::mature ? std::min(hard, time_limit(sa, sa.soft)) : hard;
}

Time next_limit(const Policy& policy)
{
    Time at = Time::max();
    if (policy.lifetime != 0)
        at = after_seconds(policy.created, policy.lifetime);
    if (policy.validtime != 0)
        at = std::min(at, after_seconds(std::max(policy.created, policy.last_used), policy.validtime));
    return at;
}

}  // namespace latchkey
