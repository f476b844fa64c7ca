// SPDX-License-Identifier: BSD-2-Clause
// Unmodified Linux binaries meet our headers' layout: both must agree on every size, offset and number.
extern "C" {
#include "tests/include/abi.h"
extern const abi_row linux_abi[];
extern const size_t linux_abi_rows;
extern const abi_row latchkey_abi[];
extern const size_t latchkey_abi_rows;
}

#include <doctest/doctest.h>
#include <string>
#include <string_view>

TEST_CASE("net/pfkeyv2.h and netinet6/ipsec.h agree with the Linux headers")
{
    REQUIRE(latchkey_abi_rows == linux_abi_rows);
    CHECK(linux_abi_rows > 250);
    for (size_t i = 0; i < linux_abi_rows; ++i) {
        CAPTURE(std::string(linux_abi[i].name));
        CHECK(std::string_view(latchkey_abi[i].name) == linux_abi[i].name);
        CHECK(latchkey_abi[i].size == linux_abi[i].size);
        CHECK(latchkey_abi[i].number == linux_abi[i].number);
    }
}
