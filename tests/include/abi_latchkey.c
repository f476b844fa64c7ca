/* SPDX-License-Identifier: BSD-2-Clause */
#include <net/pfkeyv2.h>
#include <netinet6/ipsec.h>

#include "tests/include/abi.h"

ABI_TABLE(latchkey_abi)
#include "tests/include/abi.inc"
ABI_TABLE_END(latchkey_abi)
