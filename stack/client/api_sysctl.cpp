// SPDX-License-Identifier: BSD-2-Clause
// The C functions of <latchkey/sysctl.h> and of the compatible <sys/sysctl.h>.
#include <latchkey/sysctl.h>

#include "stack/client/api.hpp"
#include "stack/client/calls.hpp"
#include "stack/client/descriptors.hpp"

#include "include/compat/sys/sysctl.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <memory>
#include <new>

using namespace latchkey;
using namespace latchkey::client;
using control::Op;

namespace {

enum SysctlVerb : int { get = 1, set = 2, describe = 3 };

struct HostCloser {
    void operator()(latchkey_host* host) const { latchkey_host_close(host); }
};

int parse_value(std::string_view text, std::int64_t& value)
{
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size() ? 0 : -EPROTO;
}

int read_value(Host& host, std::string_view name, int& value)
{
    std::string text;
    if (const int error = text_call(host, Op::sysctl, get, name, text); error < 0)
        return error;
    std::int64_t wide = 0;
    const int error = parse_value(text, wide);
    value = static_cast<int>(static_cast<std::uint32_t>(wide));
    return error;
}

// "NAME\tTYPE\tDEFAULT\tMIN\tMAX\tHELP\n": is an int with its top bit set a large number here?
int is_unsigned(Host& host, std::string_view name, bool& answer)
{
    std::string text;
    if (const int error = text_call(host, Op::sysctl, describe, name, text); error < 0)
        return error;
    std::string_view rest = text;
    for (int field = 0; field < 4; ++field)
        rest.remove_prefix(std::min(rest.find('\t'), rest.size() - 1) + 1);
    std::int64_t max = 0;
    const int error = parse_value(rest.substr(0, rest.find('\t')), max);
    answer = max > std::numeric_limits<int>::max();
    return error;
}

int write_value(Host& host, std::string_view name, int value)
{
    std::int64_t wide = value;
    if (value < 0) {
        bool large = false;
        if (const int error = is_unsigned(host, name, large); error < 0)
            return error;
        if (large)
            wide = static_cast<std::uint32_t>(value);
    }
    std::string text;
    return text_call(host, Op::sysctl, set, std::string(name) + "=" + std::to_string(wide), text);
}

// As much of the value as there is room for.
int give_back(int value, void* oldp, std::size_t* oldlenp)
{
    if (oldlenp == nullptr)
        return 0;
    const auto room = oldp == nullptr ? sizeof value : *oldlenp;
    *oldlenp = std::min(room, sizeof value);
    if (oldp != nullptr)
        std::memcpy(oldp, &value, *oldlenp);
    return room < sizeof value ? -ENOMEM : 0;
}

int read_then_write(Host& host, std::string_view name, void* oldp, std::size_t* oldlenp, const void* newp,
                    std::size_t newlen)
{
    int value = 0;
    int error = read_value(host, name, value);
    if (error == 0)
        error = give_back(value, oldp, oldlenp);
    if (error < 0 || newp == nullptr)
        return error;
    if (newlen != sizeof value)
        return -EINVAL;
    std::memcpy(&value, newp, sizeof value);
    return write_value(host, name, value);
}

}  // namespace

int latchkey_sysctlbyname(latchkey_host* host, const char* name, void* oldp, std::size_t* oldlenp, const void* newp,
                          std::size_t newlen)
try {
    if (name == nullptr || (oldp != nullptr && oldlenp == nullptr))
        return or_errno(-EFAULT);
    std::unique_ptr<latchkey_host, HostCloser> own(host == nullptr ? latchkey_host_open(nullptr) : nullptr);
    if (host == nullptr && !own)
        return -1;
    const int result = read_then_write(host == nullptr ? *own : *host, name, oldp, oldlenp, newp, newlen);
    own.reset();
    return or_errno(result);
} catch (const std::bad_alloc&) {
    return or_errno(-ENOMEM);
}

int sysctlbyname(const char* name, void* oldp, std::size_t* oldlenp, const void* newp, std::size_t newlen)
{
    return latchkey_sysctlbyname(nullptr, name, oldp, oldlenp, newp, newlen);
}
