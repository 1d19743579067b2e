#include "llmc_log.h"

#include <fmt/format.h>

#include <charconv>

namespace lathe {

std::string llmc_training_line(const StepMetrics& m) {
  return fmt::format("s:{} trl:{:.4f} lr:{:.6f} norm:{:.2f}\n", m.step - 1, m.loss, m.lr,
                     m.grad_norm);
}

std::string llmc_validation_line(std::int64_t step, double loss) {
  return fmt::format("s:{} tel:{:.4f}\n", step, loss);
}

std::string llmc_accuracy_line(std::int64_t step, double accuracy) {
  return fmt::format("s:{} eval:{:.4f}\n", step, accuracy);
}

bool is_llmc_line_until(std::string_view line, std::int64_t step, bool is_validated) {
  constexpr std::string_view kBegin = "s:", kTraining = " trl:";
  constexpr std::string_view kValidation = " tel:", kAccuracy = " eval:";
  if (!line.starts_with(kBegin)) return false;
  std::int64_t number = 0;
  const char* end = line.data() + line.size();
  const auto parsed = std::from_chars(line.data() + kBegin.size(), end, number);
  const std::string_view rest(parsed.ptr, static_cast<std::size_t>(end - parsed.ptr));
  if (parsed.ec != std::errc() || number < 0) return false;
  if (rest.starts_with(kTraining)) return number < step;
  if (!rest.starts_with(kValidation) && !rest.starts_with(kAccuracy)) return false;
  return number < step || (is_validated && number == step);
}

}  // namespace lathe
