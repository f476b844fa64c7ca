// SPDX-License-Identifier: BSD-2-Clause
// A PF_KEY message in the making, for the pfkey_send_ functions: extensions stand in the order in which they are added,
// which is libipsec's and differs from the order of Message::emit(). Also their common checks of socket addresses.
#pragma once

#include "pfkey/formats.hpp"
#include "pfkey/ipsec_error.hpp"

#include <libpfkey.h>

#include <optional>
#include <vector>

namespace latchkey::ipsec {

class Record {
public:
    // `variable`: how many bytes keys, texts and policies will take, so that key material is never moved.
    Record(unsigned type, unsigned satype, std::uint32_t seq, std::size_t variable = 0);
    ~Record();
    Record(const Record&) = delete;
    Record& operator=(const Record&) = delete;

    template <class Format, class Value> void add(std::uint16_t type, const Value& value)
    {
        const std::size_t size = Format::size(value);
        wire::Writer out(grow(size), wire::Order::host);
        out.put<std::uint16_t>(static_cast<std::uint16_t>(size / 8));
        out.put<std::uint16_t>(type);
        Format::emit(out, value);
    }
    // An extension as the caller has it.
    void add(Bytes extension);
    // A whole address: all bits, any protocol.
    void add_address(std::uint16_t type, const Endpoint& endpoint);

    // pfkey_send(): the number of bytes, or -1 with the verdict set.
    int send(int so);

private:
    MutableBytes grow(std::size_t size);

    std::vector<std::uint8_t> bytes_;
};

struct Ends {
    Endpoint source, destination;
};

// AF_INET and AF_INET6; nothing else has a size that is known.
std::optional<Endpoint> endpoint_of(const sockaddr* name);
// Empty: the verdict is set.
std::optional<Ends> ends_of(const sockaddr* source, const sockaddr* destination);

}  // namespace latchkey::ipsec
