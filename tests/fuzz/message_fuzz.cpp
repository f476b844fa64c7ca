// SPDX-License-Identifier: BSD-2-Clause
// Any bytes are refused, or read to a value that is written and read again unchanged. The names and the policy text
// must cope with whatever the value holds.
#include "pfkey/policy_string.hpp"

#include <cstdlib>

using namespace latchkey;

namespace {

void require(bool condition)
{
    if (!condition)
        std::abort();
}

void check_policy(const PolicyExt& policy)
{
    std::vector<std::uint8_t> bytes(policy_size(policy));
    wire::Writer out(bytes, wire::Order::host);
    emit_policy(out, policy);
    require(out.ok() && out.size() == bytes.size());
    const auto again = parse_policy(bytes);
    require(again.has_value() && *again == policy);

    // Only what has words reads back, and then to a policy whose text is the same. Priority 0 has none: "not given".
    const auto text = policy_text(policy, " ", true);
    if (const auto read = parse_policy_string(text); read && policy.priority != 0)
        require(policy_text(*read, " ", true) == text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    const auto message = Message::parse({data, size});
    if (!message) {
        require(!message.error().reason.empty() && message.error().number() == EINVAL);
        return 0;
    }
    const auto bytes = message->bytes();
    require(bytes.size() == message->size());
    const auto again = Message::parse(bytes);
    require(again.has_value() && *again == *message && again->bytes() == bytes);
    require(!message_name(message->type).empty() && !satype_name(message->satype).empty());
    if (message->policy)
        check_policy(*message->policy);
    return 0;
}
