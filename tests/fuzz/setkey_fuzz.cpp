// SPDX-License-Identifier: BSD-2-Clause
// setkey scripts: text -> commands -> messages -> bytes -> messages -> text. What is built must be well-formed, and the
// printers must cope with it.
#include "setkey/build.hpp"
#include "setkey/parser.hpp"
#include "setkey/print.hpp"

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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    const std::string text(data, data + size);
    const Source source("fuzz", text);
    must(complete_commands(text) <= text.size());
    for (Parser parser(source, {.numeric = false, .resolve = resolve});;) {
        const auto command = parser.next();
        if (!command) {
            must(command.error().offset <= text.size());
            must(!command.error().text.empty());
            (void)source.where(command.error().offset);
            if (!parser.recover())
                break;
        } else if (!*command) {
            break;
        } else {
            build(**command, {true}, [](const Message& message, bool) { check(message); });
        }
    }
    // Anything at all can come out of a file of saved records.
    std::string shown;
    append_record(shown, {data, size});
    return 0;
}
