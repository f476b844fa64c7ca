// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/libpfkey_supported.hpp"

#include "pfkey/algorithms.hpp"
#include "pfkey/formats.hpp"
#include "pfkey/ipsec_error.hpp"

#include <libpfkey.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <unistd.h>

using namespace latchkey;
using namespace latchkey::ipsec;

namespace {

// AH's list is the authentication algorithms, ESP's the encryption algorithms. No message lists those of the others.
struct Kept {
    unsigned satype, extension;
    AlgorithmKind kind;
    std::optional<std::vector<SupportedAlgorithm>> list;
};
std::array<Kept, 2> kept{{{SADB_SATYPE_AH, SADB_EXT_SUPPORTED_AUTH, AlgorithmKind::auth, {}},
                          {SADB_SATYPE_ESP, SADB_EXT_SUPPORTED_ENCRYPT, AlgorithmKind::cipher, {}}}};
std::mutex kept_guard;

Kept* kept_for(unsigned Kept::*member, unsigned number)
{
    const auto found = std::ranges::find(kept, number, member);
    return found == kept.end() ? nullptr : &*found;
}

struct Found {
    AlgorithmKind kind;
    SupportedAlgorithm algorithm;
};

// Empty: the verdict is set.
std::optional<Found> find(unsigned Kept::*member, unsigned number, unsigned id)
{
    const std::lock_guard lock(kept_guard);
    const auto* row = kept_for(member, number);
    if (row == nullptr) {
        refuse(EIPSEC_INVAL_ARGUMENT, "expected authentication (AH) or encryption (ESP)");
        return std::nullopt;
    }
    if (!row->list) {
        refuse(EIPSEC_DO_GET_SUPP_LIST);
        return std::nullopt;
    }
    const auto found = std::ranges::find(*row->list, id, &SupportedAlgorithm::id);
    if (found == row->list->end()) {
        refuse(EIPSEC_NOT_SUPPORTED, "the host does not have this algorithm");
        return std::nullopt;
    }
    return Found{row->kind, *found};
}

// The range is the host's; which lengths inside it exist (AES: 128, 192, 256) it cannot say, the table can.
int check(const std::optional<Found>& found, unsigned bits)
{
    if (!found)
        return -1;
    const auto& [kind, algorithm] = *found;
    const auto* row = algorithm_by_id(kind, algorithm.id);
    if (bits < algorithm.min_bits || bits > algorithm.max_bits || (row != nullptr && !row->key_bits_ok(bits)))
        return refuse(EIPSEC_INVAL_KEYLEN);
    return accept(0);
}

// One SUPPORTED extension, its header behind the Reader. Not zero: the verdict is set.
int keep(unsigned extension, wire::Reader body)
{
    auto* row = kept_for(&Kept::extension, extension);
    if (row == nullptr)
        return refuse(EIPSEC_INVAL_SATYPE, "expected extensions SUPPORTED_AUTH and SUPPORTED_ENCRYPT alone");
    auto list = formats::SupportedFormat::parse(body);
    if (!list)
        return refuse(EIPSEC_INVAL_SADBMSG, list.error().reason);
    const std::lock_guard lock(kept_guard);
    row->list = std::move(*list);
    return 0;
}

int keep_all(wire::Reader in)
{
    constexpr std::size_t header = 4;
    while (in.left() != 0) {
        const std::size_t size = std::size_t{in.get<std::uint16_t>()} * 8;
        const auto type = in.get<std::uint16_t>();
        if (!in.ok() || size < sizeof(sadb_supported) || size - header > in.left())
            return refuse(EIPSEC_INVAL_SADBMSG, "an extension has not the length that it says");
        if (keep(type, in.sub(size - header)) != 0)
            return -1;
    }
    return accept(0);
}

}  // namespace

void latchkey::ipsec::forget_supported(unsigned satype)
{
    const std::lock_guard lock(kept_guard);
    for (auto& row : kept)
        if (satype == SADB_SATYPE_UNSPEC || satype == row.satype)
            row.list.reset();
}

int pfkey_recv_register(int so)
{
    struct Free {
        void operator()(void* memory) const { std::free(memory); }
    };
    const auto pid = static_cast<std::uint32_t>(getpid());
    std::unique_ptr<sadb_msg, Free> message;
    do {
        message.reset(pfkey_recv(so));
        if (!message)
            return -1;
    } while (message->sadb_msg_type != SADB_REGISTER || message->sadb_msg_pid != pid);
    if (message->sadb_msg_errno != 0)
        return refuse_errno(message->sadb_msg_errno, "SADB_REGISTER");
    return pfkey_set_supported(message.get(), message->sadb_msg_len * 8);
}

// Callers have often turned sadb_msg_len into bytes already.
int pfkey_set_supported(sadb_msg* msg, int len)
{
    if (msg == nullptr || len < static_cast<int>(sizeof *msg) ||
        (msg->sadb_msg_len != len && msg->sadb_msg_len * 8 != len))
        return refuse(EIPSEC_INVAL_ARGUMENT, "expected a message and its length in bytes");
    const Bytes record(static_cast<const std::uint8_t*>(static_cast<const void*>(msg)), static_cast<std::size_t>(len));
    return keep_all(wire::Reader(record.subspan(sizeof *msg), wire::Order::host));
}

int ipsec_check_keylen(unsigned supported, unsigned alg_id, unsigned keylen)
{
    return check(find(&Kept::extension, supported, alg_id), keylen);
}

int ipsec_check_keylen2(unsigned satype, unsigned alg_id, unsigned keylen)
{
    return check(find(&Kept::satype, satype, alg_id), keylen);
}

int ipsec_get_keylen(unsigned supported, unsigned alg_id, sadb_alg* alg)
{
    if (alg == nullptr)
        return refuse(EIPSEC_INVAL_ARGUMENT, "expected room for the answer, got NULL");
    const auto found = find(&Kept::extension, supported, alg_id);
    if (!found)
        return -1;
    const auto& a = found->algorithm;
    *alg = {a.id, a.iv, a.min_bits, a.max_bits, 0};
    return accept(0);
}
