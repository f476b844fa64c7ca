// SPDX-License-Identifier: BSD-2-Clause
// The functions of <libpfkey.h> that print a message, in the formats of setkey(8). They write through stdio, so that a
// program may mix them with its own output.
#include "setkey/print.hpp"

#include <libpfkey.h>

#include <cstdio>
#include <ctime>

using namespace latchkey;

namespace {

Bytes record_of(const sadb_msg* message)
{
    return {static_cast<const std::uint8_t*>(static_cast<const void*>(message)),
            std::size_t{message->sadb_msg_len} * 8};
}

using Append = void (*)(std::string&, const Message&, const setkey::PrintOptions&);

void print(const sadb_msg* message, Append append, bool ports)
{
    if (message == nullptr || message->sadb_msg_len * 8u < sizeof *message)
        return;
    std::string text;
    const auto parsed = Message::parse(record_of(message));
    if (parsed)
        append(text, *parsed, {.ports = ports, .now = static_cast<std::int64_t>(std::time(nullptr))});
    else
        text = "malformed message: " + std::string(parsed.error().reason) + "\n";
    std::fwrite(text.data(), 1, text.size(), stdout);
}

}  // namespace

void pfkey_sadump(sadb_msg* msg)
{
    print(msg, setkey::append_sa, false);
}

void pfkey_sadump_withports(sadb_msg* msg)
{
    print(msg, setkey::append_sa, true);
}

void pfkey_spdump(sadb_msg* msg)
{
    print(msg, setkey::append_policy, false);
}

void pfkey_spdump_withports(sadb_msg* msg)
{
    print(msg, setkey::append_policy, true);
}

void kdebug_sadb(sadb_msg* msg)
{
    if (msg == nullptr || msg->sadb_msg_len * 8u < sizeof *msg)
        return;
    std::string text;
    setkey::append_record(text, record_of(msg));
    std::fwrite(text.data(), 1, text.size(), stdout);
}
