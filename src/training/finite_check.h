// --check-finite: looks at everything that operations write and ends the run at the first value
// that is not finite, with its layer, tensor and place.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lathe/adamw.h"
#include "lathe/backend.h"
#include "lathe/model.h"

namespace lathe {

class FiniteCheck final : public OutputObserver {
 public:
  // All must outlive it.
  FiniteCheck(Backend& backend, const Gpt2& model, const AdamW& adamw);

  // What the run starts with. Error(diverged), as observe().
  void check_parameters() const;

  // Of what comes from here on, for messages.
  void set_step(std::int64_t step) { step_ = step; }

  void observe(const OperationOutputs& operation) override;

 private:
  void check(const OutputTensor& operand, const std::string& who) const;
  std::string parameter_at(const void* address) const;

  Backend& backend_;
  const Gpt2& model_;
  // Memory that is laid out as the parameters are, as far as it has their elements.
  struct Flat {
    const char* name;
    Slices slices;
  };
  std::vector<Flat> flat_;
  std::int64_t step_ = 0;
};

}  // namespace lathe
