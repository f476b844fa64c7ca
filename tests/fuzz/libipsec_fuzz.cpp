// SPDX-License-Identifier: BSD-2-Clause
// What C programs hand to libipsec: a policy's text, a policy's bytes, a received message. The first byte says which.
// Bytes carry their own length, so the harness makes it true and AddressSanitizer sees a read beyond it.
#include <libpfkey.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace {

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};
template <class T> using Owned = std::unique_ptr<T, Free>;

void require(bool condition)
{
    if (!condition)
        std::abort();
}

// A copy of whole 8-byte units, with the number of units at `at`.
Owned<char> copy(const std::uint8_t* data, std::size_t& size, std::size_t at)
{
    size = std::min<std::size_t>(size / 8, 0xffff) * 8;
    Owned<char> out(static_cast<char*>(std::malloc(size)));
    std::memcpy(out.get(), data, size);
    const auto units = static_cast<std::uint16_t>(size / 8);
    std::memcpy(out.get() + at, &units, sizeof units);
    return out;
}

void check_verdict(bool good)
{
    require((latchkey_ipsec_error() == EIPSEC_NO_ERROR) == good);
    require(std::strlen(ipsec_strerror()) > 0);
}

// What has words goes to bytes and back.
void fuzz_text(const std::uint8_t* data, std::size_t size)
{
    const auto* text = static_cast<const char*>(static_cast<const void*>(data));
    const Owned<char> policy(ipsec_set_policy(text, static_cast<int>(size)));
    check_verdict(policy != nullptr);
    if (!policy)
        return;
    const Owned<char> words(ipsec_dump_policy_withports(policy.get(), " "));
    require(words != nullptr);
    const Owned<char> again(ipsec_set_policy(words.get(), static_cast<int>(std::strlen(words.get()))));
    // An id chosen by a host is shown as unique#N, and priority 0 not at all: that is not read back as it was.
    if (std::strchr(words.get(), '#') != nullptr || std::strstr(words.get(), "prio") == nullptr)
        return;
    require(again != nullptr);
    const auto length = static_cast<std::size_t>(ipsec_get_policylen(policy.get()));
    require(ipsec_get_policylen(again.get()) == static_cast<int>(length));
    require(std::memcmp(policy.get(), again.get(), length) == 0);
}

void fuzz_policy(const std::uint8_t* data, std::size_t size)
{
    if (size < 8)
        return;
    const auto policy = copy(data, size, 0);
    const Owned<char> text(ipsec_dump_policy(policy.get(), " "));
    check_verdict(text != nullptr);
    const Owned<char> with_ports(ipsec_dump_policy_withports(policy.get(), nullptr));
    require((text != nullptr) == (with_ports != nullptr));
}

void fuzz_message(const std::uint8_t* data, std::size_t size)
{
    if (size < sizeof(sadb_msg))
        return;
    const auto bytes = copy(data, size, offsetof(sadb_msg, sadb_msg_len));
    auto* message = static_cast<sadb_msg*>(static_cast<void*>(bytes.get()));
    std::array<char*, SADB_EXT_MAX + 1> mhp{};
    const bool aligned = pfkey_align(message, mhp.data()) == 0;
    check_verdict(aligned);
    for (const auto* part : mhp)
        require(part == nullptr || (part >= bytes.get() && part < bytes.get() + size));
    if (aligned)
        check_verdict(pfkey_check(mhp.data()) == 0);
    check_verdict(pfkey_set_supported(message, static_cast<int>(size)) == 0);
    for (unsigned id = 0; id < 16; ++id)
        ipsec_check_keylen2(SADB_SATYPE_ESP, id, 128);
    pfkey_send_register(-1, SADB_SATYPE_UNSPEC);
}

}  // namespace

int pfkey_send(int, sadb_msg*, int len)
{
    return len;
}

sadb_msg* pfkey_recv(int)
{
    return nullptr;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    if (size == 0)
        return 0;
    switch (data[0] % 3) {
    case 0: fuzz_text(data + 1, size - 1); break;
    case 1: fuzz_policy(data + 1, size - 1); break;
    default: fuzz_message(data + 1, size - 1);
    }
    return 0;
}
