// SPDX-License-Identifier: BSD-2-Clause
// Binds one choke layer to the lwIP of this process (or of this private copy of the host library).
#pragma once

#include "stack/choke.hpp"

namespace latchkey {

void activate_choke(Choke* choke, Rng* rng);
void take_over_output(netif& n);   // lwIP's IP output of this netif goes to the choke layer

}  // namespace latchkey
