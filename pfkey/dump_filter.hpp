// SPDX-License-Identifier: BSD-2-Clause
// Which SAs a SADB_DUMP is about, beyond their type (SADB_X_EXT_FILTER, as Linux has it). Used by the engine only.
#pragma once

#include "pfkey/sa.hpp"

namespace latchkey {

struct DumpFilter {
    std::optional<Prefix> source, destination;   // null: any address of any family

    // From the extension's body. bad_value: a prefix longer than the address, or prefixes of no family.
    static Result<DumpFilter> parse(Bytes body);
    bool matches(const Sa& sa) const;
};

}  // namespace latchkey
