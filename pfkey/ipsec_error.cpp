// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/ipsec_error.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace latchkey::ipsec {

namespace {

// By EIPSEC_ number. KAME's words where they are right.
constexpr std::array<const char*, EIPSEC_INVAL_PRIORITY_BASE_OFFSET + 1> texts{
    "Success",
    "Not supported",
    "Invalid argument",
    "Invalid sadb message",
    "Invalid version",
    "Invalid security policy",
    "Invalid address specification",
    "Invalid ipsec protocol",
    "Invalid ipsec mode",
    "Invalid ipsec level",
    "Invalid SA type",
    "Invalid message type",
    "Invalid extension type",
    "Invalid algorithm type",
    "Invalid key length",
    "Invalid address family",
    "Invalid prefix length",
    "Invalid direction",
    "SPI range violation",
    "No protocol specified",
    "No algorithm specified",
    "No buffers available",
    "Must get supported algorithms list first",
    "Protocol mismatch",
    "Family mismatch",
    "Too few arguments",
    "System error",   // in its place stands what the system said
    "Unknown error",
    "Priority offset not in valid range [-2147483647, 2147483648]",
    "Priority offset from base not in valid range [0, 1073741823] for negative offsets and [0, 1073741824] for "
    "positive offsets",
};

// No destructors: a thread may ask while it ends.
struct Verdict {
    int code = EIPSEC_NO_ERROR;
    std::array<char, 256> system{};
    std::array<char, 256> detail{};
};
thread_local constinit Verdict verdict{};

template <std::size_t N> void copy(std::array<char, N>& to, std::size_t at, std::string_view from)
{
    const auto n = std::min(from.size(), N - 1 - at);
    std::copy_n(from.begin(), n, to.begin() + at);
    to[at + n] = '\0';
}

}  // namespace

int refuse(int code, std::string_view detail)
{
    verdict.code = code;
    copy(verdict.detail, 0, detail);
    errno = EINVAL;
    return -1;
}

int refuse_errno(int error, std::string_view detail)
{
    verdict.code = EIPSEC_SYSTEM_ERROR;
    const char* words = strerrordesc_np(error);
    copy(verdict.system, 0, words != nullptr ? words : "Unknown error");
    if (!detail.empty())
        copy(verdict.system, std::strlen(verdict.system.data()), ": ");
    copy(verdict.system, std::strlen(verdict.system.data()), detail);
    copy(verdict.detail, 0, detail);
    errno = error;
    return -1;
}

void accept()
{
    verdict.code = EIPSEC_NO_ERROR;
    verdict.detail[0] = '\0';
}

}  // namespace latchkey::ipsec

using namespace latchkey::ipsec;

const char* ipsec_strerror()
{
    if (verdict.code == EIPSEC_SYSTEM_ERROR)
        return verdict.system.data();
    return texts[static_cast<std::size_t>(verdict.code)];
}

int latchkey_ipsec_error()
{
    return verdict.code;
}

const char* latchkey_ipsec_detail()
{
    return verdict.detail.data();
}
