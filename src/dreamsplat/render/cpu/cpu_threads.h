// A thread pool in a few lines, because torch's and numba's OpenMP runtimes clash with a third one.
//
// A waiting thread polls for a moment, yielding its core each time, and then sleeps on a condition
// variable: one job of a call follows another within microseconds, and waking a sleeper can take longer than the job.
// Between calls workers sleep and cost nothing. A caller works on its own job and waits only for workers that have begun
// to help: one that gets no core delays no one. Several threads may run jobs at once. What is computed never depends on
// which thread does it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace dreamsplat {

class ThreadPool {
  public:
    // Calls work(i) for each i in [0, count) on at most `threads` threads, this one included. `work` must not throw.
    template <class Work>
    void parallel_for(int64_t count, int threads, const Work& work) {
        if (threads <= 1 || count <= 1) {
            for (int64_t i = 0; i < count; ++i) work(i);
            return;
        }
        Job job{[](const void* w, int64_t i) { (*static_cast<const Work*>(w))(i); }, &work, count};
        job.places = int(threads - 1 < count - 1 ? threads - 1 : count - 1);
        open(job);
        job.run();
        close(job);
    }

  private:
    struct Job {
        void (*call)(const void*, int64_t);
        const void* work;
        int64_t count;
        std::atomic<int64_t> next{0};
        int places = 0;               // how many more workers may join; guarded by mutex_
        std::atomic<int> helpers{0};  // how many are at work; changed under mutex_
        Job(void (*c)(const void*, int64_t), const void* w, int64_t n) : call(c), work(w), count(n) {}
        void run() {
            for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) call(work, i);
        }
    };

    void open(Job& job) {
        const int wake = job.places;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            try {
                for (; workers_ < wake; ++workers_) std::thread([this] { serve(); }).detach();
            } catch (const std::system_error&) {  // No more threads are available: continue with fewer.
            }
            jobs_.push_back(&job);
            opened_.fetch_add(1, std::memory_order_relaxed);
        }
        for (int i = 0; i < wake; ++i) work_.notify_one();
    }

    void close(Job& job) {
        wait_briefly([&] { return job.helpers.load(std::memory_order_relaxed) == 0; });
        std::unique_lock<std::mutex> lock(mutex_);
        for (size_t i = 0; i < jobs_.size(); ++i)
            if (jobs_[i] == &job) jobs_.erase(jobs_.begin() + long(i));
        done_.wait(lock, [&] { return job.helpers == 0; });
    }

    Job* open_job() {
        for (Job* job : jobs_)
            if (job->places > 0 && job->next.load(std::memory_order_relaxed) < job->count) return job;
        return nullptr;
    }

    void serve() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            Job* job = nullptr;
            work_.wait(lock, [&] { return (job = open_job()) != nullptr; });
            --job->places;
            ++job->helpers;
            lock.unlock();
            job->run();
            lock.lock();
            if (--job->helpers == 0) done_.notify_all();
            lock.unlock();
            const uint32_t seen = opened_.load(std::memory_order_relaxed);
            wait_briefly([&] { return opened_.load(std::memory_order_relaxed) != seen; });
            lock.lock();
        }
    }

    template <class Condition>
    static void wait_briefly(const Condition& met) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(50);
        while (!met() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    }

    std::mutex mutex_;
    std::condition_variable work_, done_;
    std::atomic<uint32_t> opened_{0};
    std::vector<Job*> jobs_;
    int workers_ = 0;
};

}  // namespace dreamsplat
