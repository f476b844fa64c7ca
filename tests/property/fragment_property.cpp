// SPDX-License-Identifier: BSD-2-Clause
// Cutting and putting together: any datagram, any MTU, any order, any duplicates; and any set of pieces at all against a
// model that keeps every byte in its place.
#include "stack/fragment.hpp"

#include "tests/stack/packets.hpp"

#include <rapidcheck.h>

#include <map>

using namespace latchkey;
using namespace latchkey::test;

namespace {

std::vector<Buffer> cut(Bytes datagram, std::size_t mtu, std::uint32_t id)
{
    std::vector<Buffer> out;
    auto fragmenter = Fragmenter::cut(datagram, mtu, id);
    RC_ASSERT(fragmenter.has_value());
    Fragmenter::Piece piece;
    while (fragmenter->next(piece)) {
        RC_ASSERT(piece.size() <= mtu);
        Buffer packet(piece.header.begin(), piece.header.begin() + static_cast<std::ptrdiff_t>(piece.header_size));
        packet.insert(packet.end(), piece.payload.begin(), piece.payload.end());
        out.push_back(std::move(packet));
    }
    return out;
}

Reassembly::Outcome deliver(Reassembly& reassembly, const Buffer& packet, std::uint64_t provenance = 0)
{
    const auto parsed = parse_packet(packet);
    RC_ASSERT(parsed.has_value());
    return reassembly.add(packet, *parsed, provenance, Time(0));
}

bool is(const Reassembly::Outcome& outcome, const Buffer& datagram)
{
    return outcome.datagram != nullptr && std::ranges::equal(Bytes(outcome.datagram.get(), outcome.size), datagram);
}

Buffer any_datagram(Family family)
{
    const auto payload = pattern(*rc::gen::inRange<std::size_t>(0, 9000), *rc::gen::arbitrary<std::uint32_t>());
    if (family == Family::v4) {
        const auto tos = *rc::gen::arbitrary<std::uint8_t>();
        const Buffer options(*rc::gen::inRange<std::size_t>(0, 11) * 4, 1);
        return build(
            V4{.id = *rc::gen::arbitrary<std::uint16_t>(), .tos = tos, .options = options, .payload = payload});
    }
    if (*rc::gen::arbitrary<bool>())
        return build(V6{.payload = payload});
    const auto units = *rc::gen::inRange<std::size_t>(1, 20);
    return build(V6{.next_header = 0, .payload = join({extension(ip_proto::udp, units), payload})});
}

void cut_shuffle_join()
{
    const auto family = *rc::gen::element(Family::v4, Family::v6);
    const auto datagram = any_datagram(family);
    const std::size_t least = family == Family::v4 ? 68 : 1280;
    auto pieces = cut(datagram, *rc::gen::inRange<std::size_t>(least, 9100), 5);
    // A link with a smaller MTU on the way (IPv4 only does so, but nothing here depends on it).
    if (*rc::gen::arbitrary<bool>()) {
        const auto narrower = *rc::gen::inRange<std::size_t>(least, 2000);
        std::vector<Buffer> again;
        for (const auto& piece : pieces)
            for (auto& smaller : cut(piece, narrower, 6))
                again.push_back(std::move(smaller));
        pieces = std::move(again);
    }
    const auto order = *rc::gen::container<std::vector<std::size_t>>(pieces.size() / 2,
                                                                     rc::gen::inRange<std::size_t>(0, pieces.size()));
    auto sent = *rc::gen::exec([&] {
        std::vector<std::size_t> all(pieces.size());
        for (std::size_t i = 0; i < all.size(); ++i)
            std::swap(all[i] = i, all[*rc::gen::inRange<std::size_t>(0, i + 1)]);
        return all;
    });
    sent.insert(sent.begin(), order.begin(), order.end());   // the duplicates come first

    Reassembly reassembly;
    std::vector<bool> came(pieces.size());
    for (const auto index : sent) {
        const auto outcome = deliver(reassembly, pieces[index]);
        RC_ASSERT(outcome.drop == Drop::none);
        came[index] = true;
        const bool all = std::ranges::count(came, true) == std::ssize(came);
        RC_ASSERT((outcome.datagram != nullptr) == all);
        if (!all)
            continue;
        RC_ASSERT(is(outcome, datagram));
        RC_ASSERT(reassembly.held_bytes() == 0u);
        return;
    }
    RC_FAIL("never complete");
}

// Fragments of one datagram under several provenances: none completes unless all of one provenance came.
void provenances_do_not_mix()
{
    const auto family = *rc::gen::element(Family::v4, Family::v6);
    const auto datagram = any_datagram(family);
    const auto pieces = cut(datagram, family == Family::v4 ? 576 : 1280, 5);
    RC_PRE(pieces.size() > 1);
    Reassembly reassembly;
    std::map<std::uint64_t, std::vector<bool>> came;
    const auto steps = *rc::gen::inRange<std::size_t>(1, 4 * pieces.size());
    for (std::size_t step = 0; step < steps; ++step) {
        const auto provenance = *rc::gen::inRange<std::uint64_t>(0, 3);
        const auto index = *rc::gen::inRange<std::size_t>(0, pieces.size());
        const auto outcome = deliver(reassembly, pieces[index], provenance);
        auto& mine = came.try_emplace(provenance, pieces.size()).first->second;
        mine[index] = true;
        const bool all = std::ranges::count(mine, true) == std::ssize(mine);
        RC_ASSERT((outcome.datagram != nullptr) == all);
        if (all) {
            RC_ASSERT(is(outcome, datagram));
            came.erase(provenance);
        }
    }
}

// The rules of RFC 791, RFC 8200 §4.5 and RFC 5722, said the slow way.
class Model {
public:
    enum class Verdict { kept, failed, complete };

    Verdict add(std::size_t from, const Buffer& bytes, bool more)
    {
        if (failed_)
            return Verdict::failed;
        for (const auto& old : pieces_)
            if (old.from == from && old.bytes == bytes && old.more == more)
                return Verdict::kept;
        pieces_.push_back({from, bytes, more});
        if (!consistent()) {
            failed_ = true;
            return Verdict::failed;
        }
        std::size_t end = 0, sum = 0;
        for (const auto& piece : pieces_) {
            sum += piece.bytes.size();
            if (!piece.more)
                end = piece.end();
        }
        return end != 0 && sum == end ? Verdict::complete : Verdict::kept;
    }

    Buffer joined() const
    {
        std::map<std::size_t, Buffer> sorted;
        for (const auto& piece : pieces_)
            sorted[piece.from] = piece.bytes;
        Buffer out;
        for (const auto& [from, bytes] : sorted)
            out.insert(out.end(), bytes.begin(), bytes.end());
        return out;
    }

private:
    struct Piece {
        std::size_t from;
        Buffer bytes;
        bool more;
        std::size_t end() const { return from + bytes.size(); }
    };

    bool consistent() const
    {
        for (std::size_t i = 0; i < pieces_.size(); ++i)
            for (std::size_t j = 0; j < pieces_.size(); ++j) {
                const auto &a = pieces_[i], &b = pieces_[j];
                if (i != j && a.from < b.end() && b.from < a.end())
                    return false;   // a byte twice
                if (i != j && !a.more && b.end() > a.end())
                    return false;   // something after the end
            }
        return true;
    }

    std::vector<Piece> pieces_;
    bool failed_ = false;
};

void any_pieces_agree_with_the_model()
{
    const auto family = *rc::gen::element(Family::v4, Family::v6);
    Reassembly reassembly;
    Model model;
    const auto units = *rc::gen::inRange<std::size_t>(1, 7);
    const auto steps = *rc::gen::inRange<std::size_t>(1, 14);
    for (std::size_t step = 0; step < steps; ++step) {
        const auto from = *rc::gen::inRange<std::size_t>(0, units) * 8;
        const auto size = *rc::gen::inRange<std::size_t>(1, units - from / 8 + 1) * 8;
        // Mostly as an honest sender would mark it, and mostly the same bytes.
        const bool ends = from + size == units * 8;
        const bool more = *rc::gen::weightedElement<bool>({{15, !ends}, {1, ends}});
        const auto version = *rc::gen::weightedElement<std::uint32_t>({{15, 1}, {1, 2}});
        const auto source = pattern(units * 8, version);
        const Buffer bytes(source.begin() + static_cast<std::ptrdiff_t>(from),
                           source.begin() + static_cast<std::ptrdiff_t>(from + size));
        const auto packet =
            family == Family::v4
                ? build(V4{.flags_and_offset = static_cast<std::uint16_t>((more ? 0x2000u : 0u) | from / 8),
                           .payload = bytes})
                : build(V6{.next_header = 44,
                           .payload = join({fragment_header(17, static_cast<std::uint16_t>(from), more, 1), bytes})});
        if (from == 0 && !more)
            continue;   // not a fragment (or an atomic one): stands alone
        const auto outcome = deliver(reassembly, packet);
        const auto verdict = model.add(from, bytes, more);
        RC_ASSERT((outcome.drop == Drop::frag_overlap) == (verdict == Model::Verdict::failed));
        RC_ASSERT((outcome.datagram != nullptr) == (verdict == Model::Verdict::complete));
        if (verdict == Model::Verdict::complete) {
            const auto joined = model.joined();
            RC_ASSERT(is(outcome, family == Family::v4 ? build(V4{.payload = joined}) : build(V6{.payload = joined})));
            RC_TAG("complete");
            return;
        }
        if (verdict == Model::Verdict::failed)
            RC_TAG("failed");
    }
}

}  // namespace

int main()
{
    bool held = rc::check("what is cut comes together again, in any order and with duplicates", cut_shuffle_join);
    held &= rc::check("fragments of different provenance never complete each other", provenances_do_not_mix);
    held &= rc::check("any pieces: dropped, kept and completed as the model says", any_pieces_agree_with_the_model);
    return held ? 0 : 1;
}
