/* SPDX-License-Identifier: BSD-2-Clause */
#include <linux/ipsec.h>
#include <linux/pfkeyv2.h>

#include "tests/include/abi.h"

ABI_TABLE(linux_abi)
#include "tests/include/abi.inc"
ABI_TABLE_END(linux_abi)
