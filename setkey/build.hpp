// SPDX-License-Identifier: BSD-2-Clause
// From a Command to the PF_KEY messages that say it. No socket here: the runner fills in seq and pid and sends.
#pragma once

#include "setkey/command.hpp"

#include <functional>

namespace latchkey::setkey {

struct BuildOptions {
    bool forward_copies = true;   // -r: an `in` policy is also one for forwarded packets, as the Linux kernel wants it
};

// Called once per message, in sending order. The message views into the Command. `copy`: it is the automatic `fwd`
// companion of the message before it.
using MessageSink = std::function<void(const Message& message, bool copy)>;

void build(const Command& command, const BuildOptions& options, const MessageSink& sink);

}  // namespace latchkey::setkey
