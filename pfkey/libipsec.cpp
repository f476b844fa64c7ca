// SPDX-License-Identifier: BSD-2-Clause
// ipsec_set_policy(3) and its relatives: policies between text and the bytes of struct sadb_x_policy.
#include "pfkey/ipsec_error.hpp"
#include "pfkey/policy_string.hpp"

#include <libpfkey.h>

#include <cstdio>
#include <cstdlib>
#include <optional>

using namespace latchkey;
using namespace latchkey::ipsec;

namespace {

int code_of(PolicyFault fault)
{
    switch (fault) {
    case PolicyFault::syntax: return EIPSEC_INVAL_ARGUMENT;
    case PolicyFault::too_few_arguments: return EIPSEC_FEW_ARGUMENTS;
    case PolicyFault::address: return EIPSEC_INVAL_ADDRESS;
    case PolicyFault::family_mismatch: return EIPSEC_FAMILY_MISMATCH;
    case PolicyFault::direction: return EIPSEC_INVAL_DIR;
    case PolicyFault::priority_offset: return EIPSEC_INVAL_PRIORITY_OFFSET;
    case PolicyFault::base_offset: return EIPSEC_INVAL_PRIORITY_BASE_OFFSET;
    case PolicyFault::reqid: return EIPSEC_INVAL_LEVEL;
    }
    return EIPSEC_INVAL_ARGUMENT;
}

// What C frees; null with the verdict set when there is no memory.
char* allocated(std::size_t size)
{
    auto* memory = static_cast<char*>(std::malloc(size));
    if (memory == nullptr)
        refuse(EIPSEC_NO_BUFS);
    return memory;
}

const std::uint8_t* octets(const void* memory)
{
    return static_cast<const std::uint8_t*>(memory);
}

// The size that a policy's header gives. Only its first two bytes are looked at.
std::size_t length_of(const void* policy)
{
    return std::size_t{wire::load<std::uint16_t>(Bytes(octets(policy), 2).first<2>(), wire::Order::host)} * 8;
}

// libipsec looks at these in this order; numbers without a name are no policy.
std::optional<int> fault_of(const PolicyExt& policy)
{
    if (policy.direction > IPSEC_DIR_FWD)
        return EIPSEC_INVAL_DIR;
    if (policy.type > IPSEC_POLICY_BYPASS)
        return EIPSEC_INVAL_POLICY;
    for (const auto& request : policy.requests) {
        const auto protocol = request.protocol;
        if (protocol != ip_proto::esp && protocol != ip_proto::ah && protocol != ip_proto::ipcomp)
            return EIPSEC_INVAL_PROTO;
        if (request.mode > Mode::tunnel)
            return EIPSEC_INVAL_MODE;
        if (request.level > Level::unique)
            return EIPSEC_INVAL_LEVEL;
        if (request.tunnel_source.family() != request.tunnel_destination.family())
            return EIPSEC_INVAL_ADDRESS;
    }
    return std::nullopt;
}

char* dump(const void* policy, const char* delimiter, bool with_ports)
{
    if (policy == nullptr)
        return refuse(EIPSEC_INVAL_ARGUMENT, "expected a policy, got NULL"), nullptr;
    const auto size = length_of(policy);
    if (size < sizeof(sadb_x_policy))
        return refuse(EIPSEC_INVAL_POLICY, "sadb_x_policy_len is less than the size of struct sadb_x_policy"), nullptr;
    const Bytes bytes(octets(policy), size);
    if (wire::load<std::uint16_t>(bytes.subspan<2, 2>(), wire::Order::host) != SADB_X_EXT_POLICY)
        return refuse(EIPSEC_INVAL_EXTTYPE, "sadb_x_policy_exttype is not SADB_X_EXT_POLICY"), nullptr;
    const auto parsed = parse_policy(bytes);
    if (!parsed)
        return refuse(EIPSEC_INVAL_POLICY, parsed.error().reason), nullptr;
    if (const auto fault = fault_of(*parsed))
        return refuse(*fault), nullptr;

    const auto text = policy_text(*parsed, delimiter != nullptr ? delimiter : " ", with_ports);
    char* out = allocated(text.size() + 1);
    if (out == nullptr)
        return nullptr;
    out[text.copy(out, text.size())] = '\0';
    return accept(out);
}

}  // namespace

ipsec_policy_t ipsec_set_policy(const char* policy, int len)
{
    if (policy == nullptr || len < 0)
        return refuse(EIPSEC_INVAL_ARGUMENT, "expected a text and its length"), nullptr;
    std::string_view text(policy, static_cast<std::size_t>(len));
    text = text.substr(0, text.find('\0'));
    const auto parsed = parse_policy_string(text);
    if (!parsed)
        return refuse(code_of(parsed.error().fault), parsed.error().text()), nullptr;

    const auto size = policy_size(*parsed);
    char* out = allocated(size);
    if (out == nullptr)
        return nullptr;
    wire::Writer writer(MutableBytes(static_cast<std::uint8_t*>(static_cast<void*>(out)), size), wire::Order::host);
    emit_policy(writer, *parsed);
    return accept(out);
}

int ipsec_get_policylen(ipsec_policy_t policy)
{
    if (policy == nullptr)
        return refuse(EIPSEC_INVAL_ARGUMENT, "expected a policy, got NULL");
    return accept(static_cast<int>(length_of(policy)));
}

char* ipsec_dump_policy(ipsec_policy_t policy, const char* delimiter)
{
    return dump(policy, delimiter, false);
}

char* ipsec_dump_policy_withports(void* policy, const char* delimiter)
{
    return dump(policy, delimiter, true);
}

void ipsec_hexdump(const void* buf, int len)
{
    for (int i = 0; i < len; ++i) {
        const char* before = i % 32 == 0 && i != 0 ? "\n " : i % 4 == 0 ? " " : "";
        std::printf("%s%02x", before, unsigned{octets(buf)[i]});
    }
}
