// SPDX-License-Identifier: BSD-2-Clause
#include "stack/interface.hpp"

#include <algorithm>

namespace latchkey {

bool Interface::is_broadcast(const Address& a) const
{
    if (!a.is_v4())
        return false;
    if (wire::field<std::uint32_t>(a.bytes(), 0) == 0xffffffffu)
        return true;
    return std::any_of(addresses.begin(), addresses.end(), [&](const Prefix& mine) {
        if (!mine.address.is_v4() || mine.length >= 31 || !mine.contains(a))
            return false;
        const std::uint32_t host = 0xffffffffu >> mine.length;
        return (wire::field<std::uint32_t>(a.bytes(), 0) & host) == host;
    });
}

const Address* Interface::source_for(Family family) const
{
    const Address* fallback = nullptr;
    for (const auto& mine : addresses) {
        if (mine.address.family() != family)
            continue;
        if (!mine.address.is_link_local())
            return &mine.address;
        fallback = &mine.address;
    }
    return fallback;
}

}  // namespace latchkey
