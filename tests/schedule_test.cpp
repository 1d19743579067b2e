#include "lathe/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "lathe/error.h"

namespace lathe {
namespace {

constexpr LrSchedule kAll[] = {LrSchedule::cosine, LrSchedule::linear, LrSchedule::constant,
                               LrSchedule::wsd};

// 10 steps of warm-up (0 to 9), then 101 steps: the decay has 100 equal intervals.
ScheduleSpec spec_of(LrSchedule kind) {
  return {.kind = kind, .lr = 8, .final_lr_fraction = 0.25, .warmup_steps = 10, .total_steps = 111};
}

TEST(LearningRate, RisesInEqualStepsToItsHighest) {
  for (const LrSchedule kind : kAll) {
    EXPECT_DOUBLE_EQ(learning_rate(spec_of(kind), 0), 0.8);
    EXPECT_DOUBLE_EQ(learning_rate(spec_of(kind), 4), 4);
    EXPECT_DOUBLE_EQ(learning_rate(spec_of(kind), 9), 8);   // the last of warm-up
    EXPECT_DOUBLE_EQ(learning_rate(spec_of(kind), 10), 8);  // the first after it
  }
}

TEST(LearningRate, EndsAtItsFinalFraction) {
  for (const LrSchedule kind : {LrSchedule::cosine, LrSchedule::linear, LrSchedule::wsd}) {
    EXPECT_DOUBLE_EQ(learning_rate(spec_of(kind), 110), 2);
    EXPECT_GT(learning_rate(spec_of(kind), 109), 2);
    EXPECT_DOUBLE_EQ(learning_rate(spec_of(kind), 1000), 2);  // stays there
  }
}

TEST(LearningRate, CosineFallsFromTheHighestToTheFinal) {
  const ScheduleSpec spec = spec_of(LrSchedule::cosine);
  EXPECT_DOUBLE_EQ(learning_rate(spec, 35), 2 + 6 * (1 + std::sqrt(0.5)) / 2);
  EXPECT_DOUBLE_EQ(learning_rate(spec, 60), 5);
  EXPECT_DOUBLE_EQ(learning_rate(spec, 85), 2 + 6 * (1 - std::sqrt(0.5)) / 2);
}

TEST(LearningRate, LinearFallsByTheSameAtEveryStep) {
  const ScheduleSpec spec = spec_of(LrSchedule::linear);
  for (const int k : {10, 11, 37, 60, 109}) {
    EXPECT_DOUBLE_EQ(learning_rate(spec, k), 8 - 0.06 * (k - 10));
  }
}

TEST(LearningRate, ConstantStays) {
  for (const int k : {10, 60, 110, 1000}) {
    EXPECT_DOUBLE_EQ(learning_rate(spec_of(LrSchedule::constant), k), 8);
  }
}

TEST(LearningRate, WsdHoldsAndThenFallsInTheLastFifth) {
  const ScheduleSpec spec = spec_of(LrSchedule::wsd);
  for (const int k : {10, 60, 89, 90}) EXPECT_DOUBLE_EQ(learning_rate(spec, k), 8);
  EXPECT_NEAR(learning_rate(spec, 91), 2 + 6 * (1 - std::sqrt(0.05)), 1e-12);
  EXPECT_NEAR(learning_rate(spec, 95), 5, 1e-12);  // 1 - sqrt(1/4) of the way is left
}

TEST(LearningRate, NeverRisesAfterWarmUp) {
  for (const LrSchedule kind : kAll) {
    for (int k = 10; k < 120; ++k) {
      EXPECT_LE(learning_rate(spec_of(kind), k + 1), learning_rate(spec_of(kind), k)) << k;
    }
  }
}

TEST(LearningRate, WithoutWarmUpBeginsAtItsHighest) {
  ScheduleSpec spec = spec_of(LrSchedule::cosine);
  spec.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(learning_rate(spec, 0), 8);
  EXPECT_DOUBLE_EQ(learning_rate(spec, 110), 2);
}

TEST(LearningRate, WarmUpLongerThanTheRunOnlyRises) {
  ScheduleSpec spec = spec_of(LrSchedule::cosine);
  spec.warmup_steps = 400;
  EXPECT_DOUBLE_EQ(learning_rate(spec, 0), 0.02);
  EXPECT_DOUBLE_EQ(learning_rate(spec, 110), 2.22);
}

TEST(LearningRate, OneStepAfterWarmUpIsTheLast) {
  for (const std::int64_t warmup : {0, 10}) {
    for (const LrSchedule kind : kAll) {
      ScheduleSpec spec = spec_of(kind);
      spec.warmup_steps = warmup;
      spec.total_steps = warmup + 1;
      EXPECT_DOUBLE_EQ(learning_rate(spec, warmup), kind == LrSchedule::constant ? 8 : 2);
    }
  }
}

TEST(LearningRate, FinalFractionOfZeroAndOne) {
  for (const LrSchedule kind : kAll) {
    ScheduleSpec spec = spec_of(kind);
    spec.final_lr_fraction = 0;
    EXPECT_DOUBLE_EQ(learning_rate(spec, 110), kind == LrSchedule::constant ? 8 : 0);
    spec.final_lr_fraction = 1;
    for (const int k : {10, 60, 95, 110}) EXPECT_DOUBLE_EQ(learning_rate(spec, k), 8);
  }
}

TEST(LearningRate, SchedulesHaveNames) {
  EXPECT_EQ(parse_lr_schedule("cosine"), LrSchedule::cosine);
  EXPECT_EQ(parse_lr_schedule("linear"), LrSchedule::linear);
  EXPECT_EQ(parse_lr_schedule("constant"), LrSchedule::constant);
  EXPECT_EQ(parse_lr_schedule("wsd"), LrSchedule::wsd);
  try {
    parse_lr_schedule("Cosine");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_STREQ(error.what(),
                 "--lr-schedule Cosine: must be one of cosine, linear, constant, wsd");
  }
}

TEST(ClipFactor, ScalesOnlyWhatIsAboveTheLimit) {
  EXPECT_EQ(clip_factor(0.0f, 1.0f), 1.0f);
  EXPECT_EQ(clip_factor(0.5f, 1.0f), 1.0f);
  EXPECT_FLOAT_EQ(clip_factor(4.0f, 1.0f), 1.0f / 4.000001f);
  EXPECT_FLOAT_EQ(clip_factor(4.0f, 2.0f), 2.0f / 4.000001f);
  EXPECT_LT(clip_factor(1.0f, 1.0f), 1.0f);  // the guard against a norm of 0 counts
}

TEST(ClipFactor, ZeroIsOff) {
  EXPECT_EQ(clip_factor(1e30f, 0.0f), 1.0f);
  EXPECT_EQ(clip_factor(std::numeric_limits<float>::quiet_NaN(), 0.0f), 1.0f);
}

TEST(ClipFactor, KeepsNonFiniteNormsInSight) {
  EXPECT_TRUE(std::isnan(clip_factor(std::numeric_limits<float>::quiet_NaN(), 1.0f)));
  EXPECT_EQ(clip_factor(std::numeric_limits<float>::infinity(), 1.0f), 0.0f);  // inf * 0 is NaN
}

}  // namespace
}  // namespace lathe
