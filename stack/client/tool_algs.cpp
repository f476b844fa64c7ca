// SPDX-License-Identifier: BSD-2-Clause
// latchkey algs: the algorithms by all their names and numbers, and which of them a host offers.
#include "stack/client/calls.hpp"
#include "stack/client/descriptors.hpp"
#include "stack/client/tool.hpp"

#include "pfkey/algorithms.hpp"
#include "pfkey/message.hpp"

#include <unistd.h>

#include <algorithm>
#include <bitset>
#include <cerrno>
#include <cstdio>

namespace latchkey::tool {

namespace {

using Rows = std::bitset<std::size(algorithms)>;

constexpr std::string_view kind_name(AlgorithmKind kind)
{
    switch (kind) {
    case AlgorithmKind::cipher: return "cipher";
    case AlgorithmKind::aead: return "aead";
    case AlgorithmKind::auth: return "auth";
    case AlgorithmKind::compression: return "compression";
    }
    return {};
}

// Other words for a kind, as people know them from setkey and proposals.
struct KindWord {
    std::string_view word;
    AlgorithmKind kind;
};
constexpr std::array kind_words{
    KindWord{"cipher", AlgorithmKind::cipher},           KindWord{"encryption", AlgorithmKind::cipher},
    KindWord{"aead", AlgorithmKind::aead},               KindWord{"auth", AlgorithmKind::auth},
    KindWord{"authentication", AlgorithmKind::auth},     KindWord{"integrity", AlgorithmKind::auth},
    KindWord{"compression", AlgorithmKind::compression}, KindWord{"ipcomp", AlgorithmKind::compression},
};

std::vector<std::string_view> names_of(const Algorithm& row)
{
    std::vector<std::string_view> names{row.name};
    for (auto rest = row.aliases; !rest.empty();) {
        const auto name = rest.substr(0, rest.find(' '));
        names.push_back(name);
        rest.remove_prefix(std::min(rest.size(), name.size() + 1));
    }
    return names;
}

bool same_word(std::string_view a, std::string_view b)
{
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    return std::ranges::equal(a, b, {}, lower, lower);
}

// The rows that a word names: a kind, or one algorithm (`null` is a cipher and an authentication).
Rows named(std::string_view word)
{
    Rows rows;
    for (std::size_t i = 0; i < std::size(algorithms); ++i) {
        const auto is_word = [&](std::string_view name) { return same_word(name, word); };
        const bool by_kind = std::ranges::any_of(
            kind_words, [&](const KindWord& k) { return k.kind == algorithms[i].kind && is_word(k.word); });
        rows[i] = by_kind || std::ranges::any_of(names_of(algorithms[i]), is_word);
    }
    return rows;
}

std::string near(std::string_view word)
{
    std::vector<std::string_view> candidates;
    for (const auto& kind : kind_words)
        candidates.push_back(kind.word);
    for (const auto& row : algorithms)
        std::ranges::copy(names_of(row), std::back_inserter(candidates));
    return suggestion(word, candidates);
}

// ---- the host's offer -------------------------------------------------------------------------------------------

bool lists(const std::optional<std::vector<SupportedAlgorithm>>& offered, const Algorithm& row)
{
    return offered && std::ranges::any_of(*offered, [&](const auto& one) { return one.id == row.sadb_id; });
}

// AEADs are among the ciphers in PF_KEY, and compression is in neither list: a host has what is built into both of us.
Rows offered_by(const Message& reply)
{
    Rows rows;
    for (std::size_t i = 0; i < std::size(algorithms); ++i) {
        const auto& row = algorithms[i];
        rows[i] = row.kind == AlgorithmKind::compression ? row.offered()
            : row.kind == AlgorithmKind::auth            ? lists(reply.supported_auth, row)
                                                         : lists(reply.supported_encrypt, row);
    }
    return rows;
}

// REGISTER for no SA type: asks and registers nothing. 0 or -errno.
int ask_host(client::Host& host, int fd, Rows& rows)
{
    Message request;
    request.type = SADB_REGISTER;
    request.satype = SADB_SATYPE_UNSPEC;
    request.seq = 1;
    request.pid = static_cast<std::uint32_t>(::getpid());
    auto raw = request.bytes();
    const iovec piece{raw.data(), raw.size()};
    if (const auto sent = client::send_decided(host, fd, {}, client::Pieces(&piece, 1), nullptr); sent < 0)
        return static_cast<int>(sent);
    std::array<std::uint8_t, 8192> room;
    for (;;) {
        const auto got = ::recv(fd, room.data(), room.size(), MSG_DONTWAIT);
        if (got <= 0)
            return got < 0 ? -errno : -ENETDOWN;
        const auto reply = Message::parse(Bytes(room).first(static_cast<std::size_t>(got)));
        if (!reply || reply->type != SADB_REGISTER || reply->seq != request.seq || reply->pid != request.pid)
            continue;   // an event for everybody
        rows = offered_by(*reply);
        return -reply->error;
    }
}

int ask_host(client::Host& host, Rows& rows)
{
    const int fd = client::open_socket(host, PF_KEY, SOCK_RAW | SOCK_CLOEXEC, PF_KEY_V2);
    if (fd < 0)
        return fd;
    const int error = ask_host(host, fd, rows);
    ::close(fd);
    return error;
}

// ---- output -----------------------------------------------------------------------------------------------------

// "128 192 256", or "40-448" where there are many. The salt, part of the key in PF_KEY, is told apart.
std::string key_bits(const Algorithm& row)
{
    constexpr int few = 4;
    const unsigned salt = row.salt * 8u;
    std::string text;
    if (row.key_max == 0)
        text = "-";
    else if (row.key_step == 0 || row.key_min == row.key_max)
        text = std::to_string(row.key_min - salt);
    else if ((row.key_max - row.key_min) / row.key_step < few)
        for (unsigned bits = row.key_min; bits <= row.key_max; bits += row.key_step)
            text += (text.empty() ? "" : " ") + std::to_string(bits - salt);
    else
        text = std::to_string(row.key_min - salt) + "-" + std::to_string(row.key_max - salt);
    return salt == 0 ? text : text + " +" + std::to_string(salt);
}

std::string or_dash(unsigned number)
{
    return number == 0 ? "-" : std::to_string(number);
}

void print_row(std::array<std::string, 9> cells)
{
    constexpr std::array<std::size_t, 8> widths{13, 20, 6, 7, 18, 5, 5, 6};
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) {
        line += cells[i];
        if (i < widths.size())
            line.append(cells[i].size() < widths[i] ? widths[i] - cells[i].size() : 1, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    std::printf("%s\n", line.c_str());
}

void print_table(const Rows& rows, const std::optional<Rows>& offered)
{
    print_row({"kind", "name", "SADB", "IKEv2", "key bits (+ salt)", "IV", "ICV", "host", "also known as"});
    for (std::size_t i = 0; i < std::size(algorithms); ++i) {
        if (!rows[i])
            continue;
        const auto& row = algorithms[i];
        auto remarks = std::string(row.aliases);
        if (row.legacy)
            remarks += remarks.empty() ? "(legacy)" : " (legacy)";
        print_row({std::string(kind_name(row.kind)), std::string(row.name), std::to_string(row.sadb_id),
                   or_dash(row.ike2_id), key_bits(row), or_dash(row.iv), or_dash(row.icv),
                   !offered ? "?" : (*offered)[i] ? "yes" : "no", remarks});
    }
}

std::string json_row(const Algorithm& row, std::optional<bool> available)
{
    std::string aliases;
    for (const auto name : names_of(row))
        if (name != row.name)
            aliases += (aliases.empty() ? "\"" : ", \"") + std::string(name) + "\"";
    const auto number = [](std::string_view name, unsigned value) {
        return "\"" + std::string(name) + "\": " + std::to_string(value) + ", ";
    };
    return "{\"kind\": \"" + std::string(kind_name(row.kind)) + "\", \"name\": \"" + std::string(row.name)
        + "\", \"aliases\": [" + aliases + "], " + number("sadb", row.sadb_id)
        + "\"ikev2\": " + (row.ike2_id == 0 ? "null" : std::to_string(row.ike2_id)) + ", "
        + number("key_bits_min", row.key_min) + number("key_bits_max", row.key_max)
        + number("key_bits_step", row.key_step) + number("salt_bits", row.salt * 8u) + number("iv_bytes", row.iv)
        + number("icv_bytes", row.icv) + number("block_bytes", row.block) + "\"legacy\": "
        + (row.legacy ? "true" : "false") + ", \"available\": " + (!available ? "null" : *available ? "true" : "false")
        + "}";
}

void print_json(const Rows& rows, const std::optional<Rows>& offered)
{
    std::string text;
    for (std::size_t i = 0; i < std::size(algorithms); ++i)
        if (rows[i])
            text += (text.empty() ? "" : ",\n ")
                + json_row(algorithms[i], offered ? std::optional(offered->test(i)) : std::nullopt);
    std::printf("[%s]\n", text.c_str());
}

}  // namespace

int run_algs(const Command& self, Words words)
{
    std::string socket;
    bool json = false;
    const std::array options{
        Option{"--json", "", "a JSON array of objects", [&](std::string_view) { return json = true; }},
        socket_option(socket)};
    if (const auto done = take_options(self, options, words))
        return *done;
    Rows rows;
    if (words.empty())
        rows.set();
    for (const std::string_view word : words) {
        const auto more = named(word);
        if (more.none())
            return fail("algs: there is no algorithm or kind `" + std::string(word) + "`" + near(word));
        rows |= more;
    }
    // The table stands without a host, but one that was named must answer.
    client::Host host;
    const bool reached = socket.empty() ? host.set_path(nullptr) == 0 && host.hello({}) >= 0 : open_host(host, socket);
    if (!reached && !socket.empty())
        return exit_failed;
    std::optional<Rows> offered;
    if (reached) {
        offered.emplace();
        if (const int error = ask_host(host, *offered); error < 0)
            return fail("algs: the host does not tell what it offers: " + std::string(std::strerror(-error)));
    }
    json ? print_json(rows, offered) : print_table(rows, offered);
    if (!offered && !json)
        std::printf("\nNo host answers%s%s, so that what is available there is not known.\n",
                    *host.path() != '\0' ? " at " : "", host.path());
    return std::fflush(stdout) == 0 ? exit_ok : fail("algs: cannot write the output");
}

}  // namespace latchkey::tool
