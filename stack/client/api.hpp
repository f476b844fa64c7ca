// SPDX-License-Identifier: BSD-2-Clause
// What the opaque handle of <latchkey/host.h> is. For the two files that define the C functions.
#pragma once

#include "stack/client/channel.hpp"

#include <latchkey/host.h>

struct latchkey_host : latchkey::client::Host {};
