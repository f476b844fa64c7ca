// SPDX-License-Identifier: BSD-2-Clause
// Parser, fragmenter and reassembly as a filter for the interoperability scripts: one request per line in, one answer per
// line out. Packets in hex.
//
//   parse PACKET             ->  PROTOCOL PAYLOAD-OFFSET FRAGMENT-OFFSET more|last SOURCE-PORT DESTINATION-PORT ("-" if none)
//   cut MTU ID PACKET        ->  PIECE...
//   join PROVENANCE PACKET   ->  kept | DATAGRAM
//   forget                   ->  forgotten
//
// A refusal is answered with "drop" and its name.
#include "stack/fragment.hpp"

#include <iostream>
#include <sodium.h>
#include <sstream>
#include <string>
#include <vector>

using namespace latchkey;

namespace {

using Buffer = std::vector<std::uint8_t>;

Buffer from_hex(const std::string& text)
{
    Buffer bytes(text.size() / 2);
    std::size_t size = 0;
    if (sodium_hex2bin(bytes.data(), bytes.size(), text.data(), text.size(), nullptr, &size, nullptr) != 0)
        bytes.clear();
    return bytes;
}

std::string to_hex(Bytes bytes)
{
    std::string text(bytes.size() * 2 + 1, '\0');
    sodium_bin2hex(text.data(), text.size(), bytes.data(), bytes.size());
    text.pop_back();
    return text;
}

std::string dropped(Drop drop)
{
    return "drop " + std::string(drop_row(drop).name);
}

std::string parse(const Buffer& bytes)
{
    const auto p = parse_packet(bytes);
    if (!p)
        return dropped(p.error());
    std::ostringstream out;
    out << int{p->protocol} << ' ' << p->payload << ' ' << p->fragment_offset
        << (p->more_fragments ? " more " : " last ");
    if (p->flow.has_ports)
        out << p->flow.source_port << ' ' << p->flow.destination_port;
    else
        out << "- -";
    return out.str();
}

std::string cut(const Buffer& bytes, std::size_t mtu, std::uint32_t id)
{
    auto fragmenter = Fragmenter::cut(bytes, mtu, id);
    if (!fragmenter)
        return dropped(fragmenter.error());
    std::string out;
    for (Fragmenter::Piece piece; fragmenter->next(piece);) {
        out += out.empty() ? "" : " ";
        out += to_hex(Bytes(piece.header).first(piece.header_size)) + to_hex(piece.payload);
    }
    return out;
}

std::string join(Reassembly& reassembly, const Buffer& bytes, std::uint64_t provenance)
{
    const auto p = parse_packet(bytes);
    if (!p)
        return dropped(p.error());
    const auto outcome = reassembly.add(bytes, *p, provenance, Time(0));
    if (outcome.drop != Drop::none)
        return dropped(outcome.drop);
    return outcome.datagram == nullptr ? "kept" : to_hex({outcome.datagram.get(), outcome.size});
}

std::string answer(Reassembly& reassembly, std::istream& request)
{
    std::string verb, packet;
    std::uint64_t number = 0;
    std::uint32_t id = 0;
    request >> verb;
    if (verb == "parse" && request >> packet)
        return parse(from_hex(packet));
    if (verb == "cut" && request >> number >> id >> packet)
        return cut(from_hex(packet), number, id);
    if (verb == "join" && request >> number >> packet)
        return join(reassembly, from_hex(packet), number);
    if (verb == "forget") {
        reassembly.expire(Time::max());
        return "forgotten";
    }
    return "bad request";
}

}  // namespace

int main()
{
    if (sodium_init() < 0)
        return 1;
    Reassembly reassembly;
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream request(line);
        std::cout << answer(reassembly, request) << std::endl;
    }
}
