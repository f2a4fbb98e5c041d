#include "host/block_runner.hpp"

#include <cstring>

namespace rocmforge::gpu::host {

constinit thread_local Indices indices{};

void* shared(int site, std::size_t bytes) { return BlockRunner::current()->shared(site, bytes); }
void barrier() { BlockRunner::current()->barrier(); }
const std::uint32_t* exchange(std::uint32_t value, int wave, int operation, Combine combine) {
  return BlockRunner::current()->exchange(value, wave, operation, combine);
}

BlockRunner*& BlockRunner::current() {
  constinit static thread_local BlockRunner* runner = nullptr;
  return runner;
}

BlockRunner::BlockRunner() : shared_(std::make_unique<Shared>()) {}

void BlockRunner::start_launch(KernelFn kernel, const void* args, int threads, int wave) {
  kernel_ = kernel;
  args_ = args;
  num_threads_ = threads;
  wave_ = wave;
  descending_ = wave == 64;
  threads_.resize(static_cast<std::size_t>(threads));
  waves_.resize(static_cast<std::size_t>(threads / wave));
  shared_used_ = kSharedBytes;
}

bool BlockRunner::run(int x, int y, int z) {
  for (Thread& t : threads_) t = {State::kNotStarted, nullptr, 0, 0};
  for (Wave& w : waves_) w.arrived = 0;
  if (failed_) {  // its fibers stopped where they were
    idle_.clear();
    for (auto& f : fibers_) {
      f->context = f->stack.prepare(fiber_entry);
      idle_.push_back(f.get());
    }
    failed_ = false;
  }
  ready_.clear();
  next_thread_ = finished_ = at_barrier_ = 0;
  std::memset(shared_->bytes, 0xff, shared_used_);  // NaNs
  shared_used_ = 0;
  arrays_.clear();
  indices = {0, x, y, z};

  BlockRunner* const outer = current();
  current() = this;
  while (!failed_ && finished_ < num_threads_) {
    if (!ready_.empty()) {
      Fiber& f = *threads_[static_cast<std::size_t>(ready_.front())].fiber;
      ready_.pop_front();
      resume(f);
    } else if (next_thread_ < num_threads_) {
      if (idle_.empty()) {
        fibers_.push_back(std::make_unique<Fiber>());
        fibers_.back()->context = fibers_.back()->stack.prepare(fiber_entry);
        idle_.push_back(fibers_.back().get());
      }
      Fiber& f = *idle_.back();
      idle_.pop_back();
      resume(f);
    } else {
      failure_ = Failure::kStuck;
      failed_ = true;
    }
  }
  current() = outer;
  if (failed_) error_ = describe_failure();
  return !failed_;
}

void BlockRunner::resume(Fiber& f) {
  running_ = &f;
  indices.thread = f.thread;
  rf_switch_stack(&scheduler_, f.context);
}

void BlockRunner::fiber_entry() {
  for (;;) {
    BlockRunner& runner = *current();
    runner.run_threads();
    runner.idle_.push_back(runner.running_);
    rf_switch_stack(&runner.running_->context, runner.scheduler_);
  }
}

void BlockRunner::run_threads() {
  // Threads that wait no longer come first: they keep the number of stacks in use low.
  while (next_thread_ < num_threads_ && ready_.empty()) {
    const int thread = in_order(next_thread_++);
    Thread& t = threads_[static_cast<std::size_t>(thread)];
    t.state = State::kRunning;
    t.fiber = running_;
    running_->thread = thread;
    indices.thread = thread;
    kernel_(args_);
    t.state = State::kDone;
    ++finished_;
  }
}

void BlockRunner::wait(Thread& t) { rf_switch_stack(&t.fiber->context, scheduler_); }

// The i-th thread to run.
int BlockRunner::in_order(int i) const { return descending_ ? num_threads_ - 1 - i : i; }

void BlockRunner::fail(Failure what, int a, int b, int c, int d) {
  failure_ = what;
  failure_details_ = {a, b, c, d};
  failed_ = true;
  rf_switch_stack(&running_->context, scheduler_);
  __builtin_unreachable();  // no block continues a fiber of a failed one
}

void BlockRunner::barrier() {
  const int thread = indices.thread;
  if (++at_barrier_ < num_threads_) {
    Thread& t = threads_[static_cast<std::size_t>(thread)];
    t.state = State::kAtBarrier;
    wait(t);
    return;
  }
  at_barrier_ = 0;
  for (int i = 0; i < num_threads_; ++i) {
    const int other = in_order(i);
    threads_[static_cast<std::size_t>(other)].state = State::kRunning;
    if (other != thread) ready_.push_back(other);
  }
}

const std::uint32_t* BlockRunner::exchange(std::uint32_t value, int wave, int operation,
                                           Combine combine) {
  if (wave != wave_) fail(Failure::kWaveSize, wave, wave_);
  const int thread = indices.thread;
  const int first = thread / wave * wave;
  Thread& t = threads_[static_cast<std::size_t>(thread)];
  Wave& w = waves_[static_cast<std::size_t>(thread / wave)];
  // A lane may be one operation ahead of others that have not read their values yet, never two.
  std::uint32_t* values = w.values[static_cast<std::size_t>(t.parity)].data();
  values[thread - first] = value;
  t.operation = operation;
  t.parity ^= 1;
  if (++w.arrived < wave) {
    t.state = State::kAtWave;
    wait(t);
    return values;
  }
  for (int i = first; i < first + wave; ++i) {
    const int other = threads_[static_cast<std::size_t>(i)].operation;
    if (other != operation) fail(Failure::kOperations, i, thread, other, operation);
  }
  w.arrived = 0;
  if (combine) combine(values, wave);
  for (int i = first; i < first + wave; ++i) {
    threads_[static_cast<std::size_t>(i)].state = State::kRunning;
    if (i != thread) ready_.push_front(i);  // the wave runs ahead of others
  }
  return values;
}

void* BlockRunner::shared(int site, std::size_t bytes) {
  const auto at = static_cast<std::size_t>(site);
  if (at >= arrays_.size()) arrays_.resize(at + 1);
  Array& a = arrays_[at];
  if (a.bytes == 0) {
    a = {(shared_used_ + 63) / 64 * 64, bytes};
    if (a.offset + bytes > kSharedBytes)
      fail(Failure::kShared, static_cast<int>(a.offset + bytes), static_cast<int>(kSharedBytes));
    shared_used_ = a.offset + bytes;
  }
  return shared_->bytes + a.offset;
}

std::string BlockRunner::describe_failure() const {
  const auto [a, b, c, d] = failure_details_;
  switch (failure_) {
    case Failure::kWaveSize:
      return "a wave operation of " + std::to_string(a) + " lanes in a kernel for waves of " +
             std::to_string(b);
    case Failure::kOperations:
      return "threads " + std::to_string(a) + " and " + std::to_string(b) +
             " of one wave met in different wave operations (" + std::to_string(c) + " and " +
             std::to_string(d) + ")";
    case Failure::kShared:
      return "the block needs " + std::to_string(a) + " bytes of shared memory, more than " +
             std::to_string(b);
    case Failure::kStuck:
      break;
  }
  return describe_stuck();
}

std::string BlockRunner::describe_stuck() const {
  // One thread of each kind tells what happened.
  std::string text = "threads do not meet:";
  bool seen[5] = {};
  for (std::size_t i = 0; i < threads_.size(); ++i) {
    const auto state = static_cast<std::size_t>(threads_[i].state);
    if (seen[state]) continue;
    seen[state] = true;
    text += " thread " + std::to_string(i);
    switch (threads_[i].state) {
      case State::kAtBarrier:
        text += " waits at a barrier;";
        break;
      case State::kAtWave:
        text += " waits at a wave operation for lanes of its wave;";
        break;
      default:
        text += " has returned;";
    }
  }
  text.pop_back();
  return text;
}

}  // namespace rocmforge::gpu::host
