// The main of a fuzz target that is built without libFuzzer: it runs every file of the folders and files it is given,
// whole and cut off at each length, so that the corpus is a regression test in every build.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

// Every prefix of a larger file would take quadratic time.
constexpr size_t kCutBytesMax = 4096;

void run_prefix(const std::string& bytes, size_t size) {
  // A buffer of exactly this size: a read past its end is seen by AddressSanitizer.
  auto exact = std::make_unique<uint8_t[]>(size);
  std::copy_n(bytes.begin(), size, exact.get());
  LLVMFuzzerTestOneInput(exact.get(), size);
}

bool run_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "cannot read %s\n", path.c_str());
    return false;
  }
  std::string bytes(std::istreambuf_iterator<char>(file), {});
  for (size_t size = 0; size < bytes.size() && size < kCutBytesMax; ++size) {
    run_prefix(bytes, size);
  }
  run_prefix(bytes, bytes.size());
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  size_t files = 0;
  for (int i = 1; i < argc; ++i) {
    std::vector<std::filesystem::path> paths;
    if (std::filesystem::is_directory(argv[i])) {
      for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
        if (entry.is_regular_file()) {
          paths.push_back(entry.path());
        }
      }
    } else {
      paths.emplace_back(argv[i]);
    }
    for (const auto& path : paths) {
      if (!run_file(path)) {
        return 1;
      }
      ++files;
    }
  }
  std::printf("%zu inputs\n", files);
  // An empty corpus would be a test that cannot fail.
  return files > 0 ? 0 : 1;
}
