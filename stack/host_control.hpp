// SPDX-License-Identifier: BSD-2-Clause
// What the control protocol asks of the host beyond sockets: statistics, addresses, routes, links (as text, both ways).
#pragma once

#include "pfkey/result.hpp"

#include <string>
#include <string_view>

namespace latchkey {

class HostControl {
public:
    virtual ~HostControl() = default;
    virtual const std::string& name() const = 0;
    virtual std::string stat(int style) = 0;                                     // 0: for people, 1: "name value" lines
    virtual Result<std::string> address(int verb, std::string_view text) = 0;    // 0 list, 1 add, 2 delete
    virtual Result<std::string> route(int verb, std::string_view text) = 0;
    virtual Result<std::string> link(int verb, std::string_view text) = 0;       // 0 list, 1 set
    virtual Result<std::string> sysctl(int verb, std::string_view text) = 0;     // 0 list, 1 get, 2 set, 3 describe
};

}  // namespace latchkey
