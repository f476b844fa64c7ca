// SPDX-License-Identifier: BSD-2-Clause
// setkey scripts: text -> commands -> messages -> bytes -> messages -> text. What is built must be well-formed, the
// printers must cope with it, and a printed policy must mean the same when it is read again. After every error the
// parser must get on, and the report of --check must tell the same errors.
#include "pfkey/policy_string.hpp"
#include "setkey/build.hpp"
#include "setkey/check.hpp"
#include "setkey/parser.hpp"
#include "setkey/print.hpp"

#include <algorithm>
#include <cstdlib>

using namespace latchkey;
using namespace latchkey::setkey;

namespace {

// Names are not looked up: every one that begins with a letter stands for two addresses.
std::vector<Endpoint> resolve(const std::string& name, Family family)
{
    std::vector<Endpoint> out;
    if (name.empty() || name[0] < 'a' || name[0] > 'z')
        return out;
    if (family != Family::v6)
        out.push_back({Address::v4(192, 0, 2, 1)});
    if (family != Family::v4)
        out.push_back({Address::any(Family::v6)});
    return out;
}

void must(bool holds)
{
    if (!holds)
        std::abort();
}

void check(const Message& message)
{
    const auto bytes = message.bytes();
    must(bytes.size() == message.size());
    const auto again = Message::parse(bytes);
    must(again.has_value());
    must(again->bytes() == bytes);
    std::string text;
    append_record(text, bytes);
    append_sa(text, *again, {true, 1});
    append_policy(text, *again, {true, 1});
    must(text.find("malformed") == text.npos);
}

std::optional<std::uint16_t> service(const std::string& name)
{
    return name == "http" ? std::optional<std::uint16_t>(80) : std::nullopt;
}

const ParseOptions options{.numeric = false, .resolve = resolve, .service = service};

// Ids that the host gave are printed in a form that no script may use.
bool can_be_read_again(const PolicySpec& spec)
{
    return spec.has_action && std::ranges::none_of(spec.policy.requests, [](const Request& request) {
               return request.reqid > IPSEC_MANUAL_REQID_MAX;
           });
}

void check_policy_text(const Command& command)
{
    const auto* spec = std::get_if<PolicySpec>(&command.body);
    if (spec == nullptr || !can_be_read_again(*spec))
        return;
    const auto again = parse_policy_string(policy_text(spec->policy, "\n", true));
    must(again.has_value());
    must(*again == spec->policy);
}

// Returns the number of errors.
std::size_t walk(const Source& source)
{
    std::size_t errors = 0, progress = 0;
    for (Parser parser(source, options);;) {
        const auto command = parser.next();
        if (!command) {
            ++errors;
            must(command.error().offset <= source.text().size());
            must(!command.error().text.empty());
            (void)source.where(command.error().offset);
            if (!parser.recover())
                return errors;
            must(++progress <= source.text().size());   // no place is met twice
        } else if (!*command || (*command)->verb == Verb::quit) {
            return errors;
        } else {
            check_policy_text(**command);
            build(**command, {true}, [](const Message& message, bool) { check(message); });
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    const std::string text(data, data + size);
    const Source source("fuzz", text);
    must(complete_commands(text) <= text.size());
    const auto errors = walk(source);
    // The host has everything, so that no error comes on top but those of values.
    const auto report = check_script(source, options, [](const Algorithm&) { return true; });
    must(report.errors.size() >= errors);
    for (const auto& warning : report.warnings)
        must(warning.offset <= text.size() && warning.kind == Diagnostic::Kind::warning);
    // Anything at all can come out of a file of saved records.
    std::string shown;
    append_record(shown, {data, size});
    return 0;
}
