// SPDX-License-Identifier: BSD-2-Clause
// usage: x_fuzz CORPUS-DIRECTORY | FILE...
// A main() for fuzz targets where there is no libFuzzer: runs every file of a directory and mutations of it, which are
// the same each time. Files that are named one by one (a finding) are run as they are. A crash shows its input.
#include <algorithm>
#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" [[gnu::weak]] void __sanitizer_set_death_callback(void (*callback)());

namespace {

using Buffer = std::vector<std::uint8_t>;

const Buffer* running = nullptr;
const std::string* running_name = nullptr;
std::size_t inputs = 0;

// Only write(2): called from a signal handler.
void show_running()
{
    const auto put = [](const char* text, std::size_t size) { return write(STDERR_FILENO, text, size) == 0; };
    const auto* input = std::exchange(running, nullptr);
    if (input == nullptr)
        return;
    put("input from ", 11);
    put(running_name->data(), running_name->size());
    put(": ", 2);
    for (std::size_t i = 0; i < std::min<std::size_t>(input->size(), 65536); ++i) {
        constexpr char digits[] = "0123456789abcdef";
        const std::array<char, 2> hex{digits[(*input)[i] >> 4], digits[(*input)[i] & 15]};
        put(hex.data(), hex.size());
    }
    put("\n", 1);
}

void run(const std::string& name, const Buffer& input)
{
    const Buffer exact(input);   // no spare capacity: AddressSanitizer sees a read beyond the end
    running = &exact;
    running_name = &name;
    LLVMFuzzerTestOneInput(exact.data(), exact.size());
    running = nullptr;
    ++inputs;
}

struct Random {
    std::uint64_t state;
    std::size_t below(std::size_t limit)
    {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return limit == 0 ? 0 : static_cast<std::size_t>(state >> 33) % limit;
    }
    std::uint8_t byte() { return static_cast<std::uint8_t>(below(256)); }
};

// Lengths and counts are where parsers break: the values on the edges, in both byte orders.
void set_edge_value(Buffer& input, Random& random)
{
    static constexpr std::array<std::uint16_t, 12> edges{0, 1, 7, 8, 15, 16, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff};
    const auto value = edges[random.below(edges.size())];
    const auto at = random.below(input.size());
    const bool wide = random.below(2) == 0 && at + 1 < input.size();
    const bool swapped = random.below(2) == 0;
    const auto low = static_cast<std::uint8_t>(value), high = static_cast<std::uint8_t>(value >> 8);
    input[at] = wide && !swapped ? high : low;
    if (wide)
        input[at + 1] = swapped ? high : low;
}

void mutate(Buffer& input, const Buffer& other, Random& random)
{
    if (input.empty())
        input.push_back(random.byte());
    const auto at = random.below(input.size());
    const auto position = input.begin() + static_cast<std::ptrdiff_t>(at);
    switch (random.below(7)) {
    case 0: *position = static_cast<std::uint8_t>(*position ^ 1u << random.below(8)); break;
    case 1: *position = random.byte(); break;
    case 2: input.erase(position, position + static_cast<std::ptrdiff_t>(1 + random.below(input.size() - at))); break;
    case 3: input.insert(position, 1 + random.below(16), random.byte()); break;
    case 4: {   // the head of one, the tail of another
        const auto from = static_cast<std::ptrdiff_t>(random.below(other.size() + 1));
        input.resize(at);
        input.insert(input.end(), other.begin() + from, other.end());
        break;
    }
    case 5: {   // a part twice
        const Buffer part(position, position + static_cast<std::ptrdiff_t>(1 + random.below(input.size() - at)));
        input.insert(input.end(), part.begin(), part.end());
        break;
    }
    default: set_edge_value(input, random);
    }
}

void run_with_mutations(const std::string& name, const Buffer& seed, const Buffer& other)
{
    constexpr std::size_t truncations = 300, mutants = 600;
    run(name, seed);
    const auto step = std::max<std::size_t>(1, seed.size() / truncations);
    for (std::size_t size = 0; size < seed.size(); size += step)
        run(name + ", truncated", Buffer(seed.begin(), seed.begin() + static_cast<std::ptrdiff_t>(size)));
    Random random{seed.size() * 0x9e3779b97f4a7c15u + 1};
    for (std::size_t i = 0; i < mutants; ++i) {
        auto input = seed;
        for (auto changes = 1 + random.below(4); changes > 0; --changes)
            mutate(input, other, random);
        run(name + ", mutated", input);
    }
}

Buffer read(const std::filesystem::path& path)
{
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

int run_corpus(const std::filesystem::path& directory)
{
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(directory))
        if (entry.is_regular_file())
            files.push_back(entry.path());
    std::ranges::sort(files);
    if (files.empty()) {
        std::fprintf(stderr, "%s: no seeds\n", directory.c_str());
        return 1;
    }
    auto previous = read(files.back());
    for (const auto& file : files) {
        auto seed = read(file);
        run_with_mutations(file.filename().string(), seed, previous);
        previous = std::move(seed);
    }
    std::printf("%zu inputs from %zu seeds\n", inputs, files.size());
    return 0;
}

}  // namespace

int main(int argc, char** argv)
{
    if (__sanitizer_set_death_callback != nullptr)
        __sanitizer_set_death_callback(show_running);
    std::signal(SIGABRT, [](int) { show_running(); });   // abort() ends the program when this returns
    std::error_code missing;
    if (argc == 2 && std::filesystem::is_directory(argv[1], missing))
        return run_corpus(argv[1]);
    for (int i = 1; i < argc; ++i) {
        const std::string name = argv[i];
        if (!std::filesystem::is_regular_file(name, missing)) {
            std::fprintf(stderr, "%s: no such file or directory\n", argv[i]);
            return 1;
        }
        run(name, read(name));
    }
    if (inputs == 0)
        std::fprintf(stderr, "usage: %s CORPUS-DIRECTORY | FILE...\n", argv[0]);
    return inputs == 0 ? 2 : 0;
}
