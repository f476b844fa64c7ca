// SPDX-License-Identifier: BSD-2-Clause
// What a setkey script says, as values: the parser makes Commands, build.hpp turns them into PF_KEY messages.
#pragma once

#include "pfkey/algorithms.hpp"
#include "pfkey/message.hpp"
#include "pfkey/secret.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace latchkey::setkey {

enum class Verb : std::uint8_t {
    add,
    update,
    getspi,
    get,
    erase,
    erase_all,
    flush,
    dump,
    spd_add,
    spd_update,
    spd_erase,
    spd_flush,
    spd_dump,
    quit,
};

// One row per keyword; the words of one verb stand together, the one used in messages first.
struct VerbWord {
    std::string_view word;
    Verb verb;
    std::uint8_t message;   // SADB_*; 0: none is sent
};

inline constexpr VerbWord verb_words[] = {
    {"add", Verb::add, SADB_ADD},
    {"update", Verb::update, SADB_UPDATE},
    {"getspi", Verb::getspi, SADB_GETSPI},
    {"get", Verb::get, SADB_GET},
    {"delete", Verb::erase, SADB_DELETE},
    {"deleteall", Verb::erase_all, SADB_DELETE},
    {"flush", Verb::flush, SADB_FLUSH},
    {"dump", Verb::dump, SADB_DUMP},
    {"spdadd", Verb::spd_add, SADB_X_SPDADD},
    {"spdupdate", Verb::spd_update, SADB_X_SPDUPDATE},
    {"spddelete", Verb::spd_erase, SADB_X_SPDDELETE},
    {"spdflush", Verb::spd_flush, SADB_X_SPDFLUSH},
    {"spddump", Verb::spd_dump, SADB_X_SPDDUMP},
    {"exit", Verb::quit, 0},
    {"quit", Verb::quit, 0},
    {"bye", Verb::quit, 0},
};

constexpr const VerbWord& row_of(Verb verb)
{
    for (const auto& row : verb_words)
        if (row.verb == verb)
            return row;
    return verb_words[0];
}

// The security protocols of SA commands.
struct SaProtocol {
    std::string_view word;
    std::uint8_t satype;
    std::uint32_t flags;         // SADB_X_EXT_*
    bool udp_encapsulated;
};

inline constexpr SaProtocol sa_protocols[] = {
    {"ah", SADB_SATYPE_AH, 0, false},
    {"ah-old", SADB_SATYPE_AH, SADB_X_EXT_OLD, false},
    {"esp", SADB_SATYPE_ESP, 0, false},
    {"esp-old", SADB_SATYPE_ESP, SADB_X_EXT_OLD, false},
    {"esp-udp", SADB_SATYPE_ESP, 0, true},
    {"ipcomp", SADB_X_SATYPE_IPCOMP, 0, false},
    {"tcp", SADB_X_SATYPE_TCPSIGNATURE, 0, false},
};

// The grammar has it, because scripts do.
inline constexpr const char* no_tcp_md5 = "TCP-MD5 (RFC 2385) is not supported by this stack";

struct ModeWord {
    std::string_view word;
    Mode mode;
};

inline constexpr ModeWord mode_words[] = {
    {"any", Mode::any},
    {"transport", Mode::transport},
    {"tunnel", Mode::tunnel},
};

inline constexpr std::uint16_t natt_port = 4500;   // RFC 3948 §2.1, when the script gives none

// ESP in UDP. esp-udp takes its ports from the ends of the SA, -natt (FreeBSD) names them with the original addresses.
struct NattSpec {
    std::optional<Endpoint> original;              // NAT_T_OA(I): the initiator's address before NAT
    std::optional<Endpoint> original_remote;       // NAT_T_OAR: the responder's; only -natt has it, and ports in both
    std::optional<std::uint16_t> fragment;         // bytes
};

// Where the parts of an SA stand in the source.
struct SaPlaces {
    std::size_t protocol = 0, spi = 0, mode = 0, reqid = 0, lifetime = 0, natt = 0, cipher = 0, auth = 0,
                compression = 0;
};

struct SaSpec {
    std::vector<Endpoint> sources, destinations;   // a name may stand for several
    const SaProtocol* protocol = nullptr;
    std::optional<NattSpec> natt;
    std::uint32_t spi = 0;
    Mode mode = Mode::any;
    std::uint32_t reqid = 0;
    std::uint32_t replay = 0;                      // packets
    std::uint32_t flags = SADB_X_EXT_CYCSEQ;
    Lifetime hard, soft;
    const Algorithm* cipher = nullptr;
    const Algorithm* auth = nullptr;
    const Algorithm* compression = nullptr;
    SecretBytes cipher_key, auth_key;
    SaPlaces at;
};

struct SelectorEnd {
    std::vector<Endpoint> addresses;               // with the port of the selector
    std::optional<std::uint8_t> prefix_length;     // nothing: all bits
    std::size_t offset = 0;
};

struct PolicySpec {
    SelectorEnd source, destination;
    std::uint8_t protocol = ip_proto::any;
    std::size_t protocol_at = 0, policy_at = 0;
    bool has_action = false;                       // not a direction alone
    PolicyExt policy;
};

struct TableSpec {
    std::uint8_t satype = SADB_SATYPE_UNSPEC;      // flush and dump: unspec means all
};

// What is to say about a place in a script.
struct Diagnostic {
    enum class Kind : std::uint8_t {
        syntax,
        value,     // well-formed, but the value cannot be right
        refused,   // understood, but not supported here; the commands behind it still make sense
        warning,   // understood and done, though hardly meant or without effect
    };
    Kind kind = Kind::syntax;
    std::size_t offset = 0;
    std::string text;
};

struct Command {
    Verb verb = Verb::quit;
    std::size_t offset = 0;                        // where it begins in its source
    std::vector<Diagnostic> notes;                 // warnings: parts that are read and have no effect
    std::variant<TableSpec, SaSpec, PolicySpec> body;
};

}  // namespace latchkey::setkey
