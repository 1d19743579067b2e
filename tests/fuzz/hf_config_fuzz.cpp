// config.json of Hugging Face models.
#include <cstddef>
#include <cstdint>

#include "fuzz_file.h"
#include "lathe/files.h"
#include "model_files/hugging_face_config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lathe;
  const fuzz::FuzzFile file("config.json", {data, size});
  file.check([](const auto& path) {
    const std::string text = read_file(path, ExitCode::checkpoint);
    const HuggingFaceConfig config = parse_hugging_face_config(text, path.string());
    // What is accepted can be laid out.
    parameter_memory_count(parameter_specs(config.model));
  });
  return 0;
}
