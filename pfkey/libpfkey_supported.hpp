// SPDX-License-Identifier: BSD-2-Clause
// The lists of algorithms that SADB_REGISTER answered with, kept for ipsec_check_keylen() and its relatives.
#pragma once

namespace latchkey::ipsec {

// The list that belongs to an SA type; SADB_SATYPE_UNSPEC: all of them.
void forget_supported(unsigned satype);

}  // namespace latchkey::ipsec
