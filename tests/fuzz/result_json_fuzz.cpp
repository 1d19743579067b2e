// result.json: described, also in words, and asked how the run has ended.
#include <cstddef>
#include <cstdint>

#include "commands/describe.h"
#include "commands/print_facts.h"
#include "commands/run_table.h"
#include "fuzz_file.h"
#include "run/run_files.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const lathe::fuzz::FuzzFile file("result.json", {data, size});
  file.check([](const auto& path) { lathe::facts_text(lathe::describe_result(path)); });
  file.check([](const auto& path) { lathe::end_reason(path.parent_path()); });
  // What lathe ls makes of it.
  file.check([](const auto& path) {
    const std::vector runs = {lathe::summarize_run(path.parent_path())};
    lathe::runs_text(runs, {.columns = {}, .sort = "", .reverse = false, .width = 60});
    lathe::runs_csv(runs, {});
    lathe::runs_json(runs);
  });
  return 0;
}
