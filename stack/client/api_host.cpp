// SPDX-License-Identifier: BSD-2-Clause
// The C functions of <latchkey/host.h>.
#include "stack/client/api.hpp"

#include "stack/client/calls.hpp"
#include "stack/client/descriptors.hpp"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

using namespace latchkey;
using namespace latchkey::client;

namespace {

constexpr std::size_t longest_name = 256;

// For free(3).
char* as_c_string(const std::string& text)
{
    auto* copy = static_cast<char*>(std::malloc(text.size() + 1));
    if (copy == nullptr) {
        errno = ENOMEM;
        return nullptr;
    }
    std::memcpy(copy, text.c_str(), text.size() + 1);
    return copy;
}

// std::string is the one thing here that can throw.
char* ask(latchkey_host* host, control::Op op, int verb, const char* request) noexcept
try {
    std::string text;
    const int result = text_call(*host, op, verb, request == nullptr ? "" : request, text);
    return or_errno(result) < 0 ? nullptr : as_c_string(text);
} catch (const std::bad_alloc&) {
    errno = ENOMEM;
    return nullptr;
}

}  // namespace

latchkey_host* latchkey_host_open(const char* path)
{
    std::unique_ptr<latchkey_host> host(new (std::nothrow) latchkey_host);
    if (!host) {
        errno = ENOMEM;
        return nullptr;
    }
    int result = host->set_path(path);
    if (result == 0)
        result = host->connect_trunk();
    if (result == 0)
        result = host->hello({});
    if (or_errno(result) < 0) {
        const int error = errno;
        host->close();
        errno = error;
        return nullptr;
    }
    return host.release();
}

void latchkey_host_close(latchkey_host* host)
{
    const std::unique_ptr<latchkey_host> owned(host);
    if (owned)
        owned->close();
}

int latchkey_host_name(latchkey_host* host, char* name, std::size_t room)
{
    std::array<std::uint8_t, longest_name> raw{};
    const int size = or_errno(host->hello(raw));
    if (size < 0 || room == 0)
        return size;
    const auto kept = std::min(static_cast<std::size_t>(size), room - 1);
    std::memcpy(name, raw.data(), kept);
    name[kept] = '\0';
    return size;
}

int latchkey_host_path(const char* path, char* resolved, std::size_t room)
{
    HostPath found{};
    if (or_errno(resolve_host_path(path, found)) < 0)
        return -1;
    const auto size = std::strlen(found.data());
    if (size >= room)
        return or_errno(-ERANGE);
    std::memcpy(resolved, found.data(), size + 1);
    return static_cast<int>(size);
}

char* latchkey_host_configure(latchkey_host* host, latchkey_subject subject, latchkey_verb verb, const char* text)
{
    switch (subject) {
    case LATCHKEY_ADDRESS: return ask(host, control::Op::address, verb, text);
    case LATCHKEY_ROUTE: return ask(host, control::Op::route, verb, text);
    case LATCHKEY_LINK: return ask(host, control::Op::link, verb, text);
    }
    errno = EINVAL;
    return nullptr;
}

char* latchkey_host_stat(latchkey_host* host, int raw)
{
    return ask(host, control::Op::stat, raw != 0 ? 1 : 0, nullptr);
}
