// SPDX-License-Identifier: BSD-2-Clause
#include "stack/transform.hpp"

namespace latchkey {

namespace {

class OpensslBackend final : public CipherBackend {
public:
    explicit OpensslBackend(Rng& rng) : tools_{std::make_shared<const crypto::Library>(), transform::RandomPool(rng)} {}

    void seal(std::span<SealJob> jobs) override
    {
        for (auto& job : jobs) {
            job.result = transform::seal_esp(job, tools_);
            if (break_icv && job.result == Drop::none && transform::icv_size(*job.sa) != 0)
                job.out.back() ^= 0xff;   // ESP ends with its ICV
        }
    }

    void open(std::span<OpenJob> jobs) override
    {
        for (auto& job : jobs)
            job.result = transform::open_esp(job, tools_);
    }

    void seal(std::span<AhSealJob> jobs) override
    {
        constexpr std::size_t icv_at = 12;
        for (auto& job : jobs) {
            job.result = transform::seal_ah(job, tools_);
            if (break_icv && job.result == Drop::none && transform::icv_size(*job.sa) != 0)
                job.datagram[job.at + icv_at] ^= 0xff;
        }
    }

    void open(std::span<AhOpenJob> jobs) override
    {
        for (auto& job : jobs)
            job.result = transform::open_ah(job, tools_);
    }

    std::size_t extra_padding(const Sa& sa, int limit) override
    {
        const auto range = transform::extra_padding_of(sa, limit);
        if (range.most == 0)
            return 0;
        std::array<std::uint8_t, 2> draw;
        tools_.random.take(draw);
        return wire::field<std::uint16_t>(draw, 0) % (range.most / range.step + 1) * range.step;
    }

    Engine::AlgorithmSet available() const override
    {
        Engine::AlgorithmSet rows;
        for (std::size_t i = 0; i < std::size(algorithms); ++i)
            rows[i] = tools_.library->runs(algorithms[i]);
        return rows;
    }

private:
    transform::Tools tools_;
};

}  // namespace

std::unique_ptr<CipherBackend> make_openssl_backend(Rng& rng)
{
    return std::make_unique<OpensslBackend>(rng);
}

}  // namespace latchkey
