// A collective, and what it does.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "nccl_exchange.h"
#include "streams.h"

namespace lathe::ptx {

struct Collective {
  CollectiveShape shape;
  const std::uint8_t* send = nullptr;
  std::uint8_t* receive = nullptr;
  Stream* stream = nullptr;
  Turn turn{};               // on it
  bool has_started = false;  // its stream has come to it
  bool is_done = false;
};

// What is wrong with it as this rank gives it, or nothing. For the current device.
std::string find_fault(const Collective& collective, int rank, int ranks);

// Begins its turn. What it races with, or nothing.
std::string begin(const Collective& collective, int rank, int ranks);

// Meets the other ranks. Throws Error when they mean another collective; false when it gave up.
bool perform(const Collective& collective, NcclExchange& exchange,
             const std::atomic<bool>& gives_up);

// The results of one that was not performed: NaN.
void spoil(const Collective& collective, int rank, int ranks);

}  // namespace lathe::ptx
