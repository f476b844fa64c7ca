// SPDX-License-Identifier: BSD-2-Clause
// Keys that a cipher must not be used with, although they have the right length. Called by sa_rules.cpp.
#pragma once

#include "pfkey/algorithms.hpp"
#include "pfkey/result.hpp"
#include "pfkey/wire.hpp"

namespace latchkey {

// bad_value: a weak or semi-weak key of DES, or a triple-DES key that is single DES in disguise. The key's length is
// right for the primitive. No other cipher of the list has keys to avoid.
Result<void> check_weak_key(Primitive primitive, Bytes key);

}  // namespace latchkey
