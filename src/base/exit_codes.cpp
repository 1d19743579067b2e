#include "lathe/exit_codes.h"

#include <cerrno>
#include <exception>
#include <new>
#include <system_error>

namespace lathe {
namespace {

// The codes of ExitCode (include/lathe/error.h), and what a signal makes.
constexpr ExitCodeMeaning kTable[] = {
    {"0", "finished"},
    {"1", "internal error"},
    {"2", "options or configuration"},
    {"3", "data files"},
    {"4", "checkpoints"},
    {"5", "out of memory"},
    {"6", "writing failed, the last good checkpoint is intact"},
    {"7", "diverged"},
    {"8", "another rank failed, is silent, or differs"},
    {"124", "time limit reached, after saving"},
    {"128+N", "stopped by signal N, after saving"},
};

bool is_storage(const std::error_code& error) {
  for (const int reason : {ENOSPC, EDQUOT, EFBIG, EIO, EROFS}) {
    if (error == std::error_condition(reason, std::generic_category())) return true;
  }
  return false;
}

}  // namespace

std::span<const ExitCodeMeaning> exit_code_table() {
  return kTable;
}

Failure current_failure() {
  try {
    throw;
  } catch (const Error& error) {
    return {error.code(), error.what()};
  } catch (const std::bad_alloc&) {
    return {ExitCode::out_of_memory, "out of memory; a smaller --micro-batch needs less"};
  } catch (const std::system_error& error) {
    return {is_storage(error.code()) ? ExitCode::storage : ExitCode::internal, error.what()};
  } catch (const std::exception& error) {
    return {ExitCode::internal, error.what()};
  } catch (...) {
    return {ExitCode::internal, "an exception of no known type"};
  }
}

}  // namespace lathe
