// SPDX-License-Identifier: BSD-2-Clause
// getipsecalgbyname() and its relatives of <latchkey/algorithms.h>: the one table of algorithms as C sees it.
#include "pfkey/algorithms.hpp"

#include <latchkey/algorithms.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

using namespace latchkey;

namespace {

struct NameSpace {
    int number;
    const char* name;
    AlgorithmKind kind;
};
constexpr NameSpace name_spaces[] = {{IPSEC_PROTO_AH, "AH", AlgorithmKind::auth},
                                     {IPSEC_PROTO_ESP, "ESP", AlgorithmKind::cipher},
                                     {IPSEC_PROTO_IPCOMP, "IPCOMP", AlgorithmKind::compression}};

const NameSpace* name_space(int number)
{
    const auto* found = std::ranges::find(name_spaces, number, &NameSpace::number);
    return found == std::end(name_spaces) ? nullptr : found;
}

// PKCS #11 v3.1, the mechanism that runs a row.
constexpr const char* mechanism(Primitive primitive)
{
    switch (primitive) {
    case Primitive::des_cbc: return "CKM_DES_CBC";
    case Primitive::des3_cbc: return "CKM_DES3_CBC";
    case Primitive::cast_cbc: return "CKM_CAST128_CBC";
    case Primitive::blowfish_cbc: return "CKM_BLOWFISH_CBC";
    case Primitive::aes_cbc: return "CKM_AES_CBC";
    case Primitive::camellia_cbc: return "CKM_CAMELLIA_CBC";
    case Primitive::aes_ctr: return "CKM_AES_CTR";
    case Primitive::aes_ccm: return "CKM_AES_CCM";
    case Primitive::aes_gcm: return "CKM_AES_GCM";
    case Primitive::aes_gmac: return "CKM_AES_GMAC";
    case Primitive::chacha20_poly1305: return "CKM_CHACHA20_POLY1305";
    case Primitive::hmac_md5: return "CKM_MD5_HMAC_GENERAL";
    case Primitive::hmac_sha1: return "CKM_SHA_1_HMAC_GENERAL";
    case Primitive::hmac_sha256: return "CKM_SHA256_HMAC_GENERAL";
    case Primitive::hmac_sha384: return "CKM_SHA384_HMAC_GENERAL";
    case Primitive::hmac_sha512: return "CKM_SHA512_HMAC_GENERAL";
    case Primitive::hmac_ripemd160: return "CKM_RIPEMD160_HMAC_GENERAL";
    case Primitive::aes_xcbc: return "CKM_AES_XCBC_MAC_96";
    default: return "";
    }
}

int flags_of(const Algorithm& row)
{
    int flags = row.offered() ? ALG_FLAG_VALID : 0;
    if (row.counts())
        flags |= ALG_FLAG_COUNTERMODE;
    if (row.kind == AlgorithmKind::aead)
        flags |= ALG_FLAG_COMBINED;
    if (row.primitive == Primitive::aes_ccm)
        flags |= ALG_FLAG_CCM;
    if (row.primitive == Primitive::aes_gcm || row.primitive == Primitive::aes_gmac)
        flags |= ALG_FLAG_GCM;
    return flags;
}

// ---- what freeipsecalgent() takes apart -----------------------------------------------------------------------------

// The numbers, then 0. Null: no memory.
int* numbers(std::initializer_list<int> values)
{
    auto* out = static_cast<int*>(std::calloc(values.size() + 1, sizeof(int)));
    if (out != nullptr)
        std::ranges::copy(values, out);
    return out;
}

char** names_of(const Algorithm& row)
{
    std::vector<std::string> words{std::string(row.name)};
    for (auto rest = row.aliases; !rest.empty();) {
        const auto space = rest.find(' ');
        words.emplace_back(rest.substr(0, space));
        rest = space == rest.npos ? std::string_view{} : rest.substr(space + 1);
    }
    auto* out = static_cast<char**>(std::calloc(words.size() + 1, sizeof(char*)));
    for (std::size_t i = 0; out != nullptr && i < words.size(); ++i)
        if ((out[i] = ::strdup(words[i].c_str())) == nullptr) {
            for (char** name = out; *name != nullptr; ++name)
                std::free(*name);
            std::free(out);
            return nullptr;
        }
    return out;
}

// As long as the key may be when nobody says otherwise; a variable-length cipher is used with 128 bits.
int default_bits(int smallest, int largest, int step)
{
    constexpr int usual = 128;
    return step == 64 ? largest : std::clamp(usual, smallest, largest);
}

int* key_sizes(const Algorithm& row)
{
    const int salt = row.salt * 8;
    const int smallest = row.key_min - salt, largest = row.key_max - salt;
    return row.key_step == 0 ? numbers({smallest})
                             : numbers({default_bits(smallest, largest, row.key_step), smallest, largest});
}

struct Free {
    void operator()(ipsecalgent* entry) const { freeipsecalgent(entry); }
};

ipsecalgent* entry_of(const Algorithm& row, int protocol, int& error)
{
    std::unique_ptr<ipsecalgent, Free> entry(static_cast<ipsecalgent*>(std::calloc(1, sizeof(ipsecalgent))));
    error = ENOMEM;
    if (!entry)
        return nullptr;
    entry->a_names = names_of(row);
    entry->a_proto_num = protocol;
    entry->a_alg_num = row.sadb_id;
    entry->a_mech_name = ::strdup(mechanism(row.primitive));
    entry->a_block_sizes = numbers({row.block});
    entry->a_key_sizes = key_sizes(row);
    entry->a_key_increment = row.key_step;
    entry->a_mech_params = numbers({row.iv, row.icv, row.salt});
    entry->a_alg_flags = flags_of(row);
    if (entry->a_names == nullptr || entry->a_mech_name == nullptr || entry->a_block_sizes == nullptr ||
        entry->a_key_sizes == nullptr || entry->a_mech_params == nullptr)
        return nullptr;
    error = 0;
    return entry.release();
}

template <class Find> ipsecalgent* look_up(int protocol, int* errnop, Find find)
{
    int error = EINVAL;
    ipsecalgent* entry = nullptr;
    if (const auto* space = name_space(protocol)) {
        const auto* row = find(space->kind);
        error = ENOENT;
        if (row != nullptr)
            entry = entry_of(*row, protocol, error);
    }
    if (errnop != nullptr)
        *errnop = error;
    return entry;
}

char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

}  // namespace

ipsecalgent* getipsecalgbyname(const char* alg_name, int protocol_num, int* errnop)
{
    std::string name(alg_name != nullptr ? alg_name : "");
    std::ranges::transform(name, name.begin(), lower);
    return look_up(protocol_num, errnop, [&](AlgorithmKind kind) { return algorithm_by_name(kind, name); });
}

ipsecalgent* getipsecalgbynum(int alg_num, int protocol_num, int* errnop)
{
    return look_up(protocol_num, errnop, [&](AlgorithmKind kind) {
        return alg_num < 0 ? nullptr : algorithm_by_id(kind, static_cast<unsigned>(alg_num));
    });
}

void freeipsecalgent(ipsecalgent* entry)
{
    if (entry == nullptr)
        return;
    for (char** name = entry->a_names; name != nullptr && *name != nullptr; ++name)
        std::free(*name);
    std::free(entry->a_names);
    std::free(entry->a_mech_name);
    std::free(entry->a_block_sizes);
    std::free(entry->a_key_sizes);
    std::free(entry->a_mech_params);
    std::free(entry);
}

int getipsecprotobyname(const char* proto_name)
{
    if (proto_name != nullptr)
        for (const auto& space : name_spaces)
            if (::strcasecmp(space.name, proto_name) == 0)
                return space.number;
    return -1;
}

char* getipsecprotobynum(int proto_num)
{
    const auto* space = name_space(proto_num);
    return space == nullptr ? nullptr : ::strdup(space->name);
}
