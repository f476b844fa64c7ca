// SPDX-License-Identifier: BSD-2-Clause
#include "stack/wire/fd.hpp"

#include <cerrno>
#include <system_error>

#include <unistd.h>

namespace latchkey {

std::unexpected<std::string> system_failure(const std::string& what)
{
    return std::unexpected(what + ": " + std::generic_category().message(errno));
}

}  // namespace latchkey
