// What the peers in C++ share with bench/bench.h: the command line, how time is measured, and the lines that are printed.
//
//     PROGRAM [--threads N] [--only TEXT] [check]
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace peer {

constexpr size_t samples = 15, least = 3;

struct options {
    int threads = 1;
    std::string only;
    bool check = false;
    double seconds = 0.1; // that a case may take

    options(int argc, char **argv) {
        if (const char *given = std::getenv("ADTAPE_BENCH_SECONDS")) seconds = std::atof(given);
        for (int i = 1; i < argc; i++) {
            if (std::strcmp(argv[i], "check") == 0) check = true;
            if (std::strcmp(argv[i], "--only") == 0 && i + 1 < argc) only = argv[++i];
            if (std::strcmp(argv[i], "--threads") == 0 && i + 1 < argc) threads = std::atoi(argv[++i]);
        }
    }
    bool wants(const std::string &name) const { return name.find(only) != std::string::npos; }
};

inline double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const size_t n = values.size();
    return n % 2 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

// One repetition of a case: adds the seconds that each of its parts took.
using call = std::function<void(std::vector<double> &part)>;

// The median seconds of each part. The first call, which warms up, does not count; short ones are put together until a
// sample is long enough to be measured.
inline std::vector<double> measure(const options &o, size_t parts, const call &run) {
    std::vector<double> part(parts);
    run(part);
    long repeat = 1;
    for (double start = now();; repeat *= 2, start = now()) {
        for (long i = 0; i < repeat; i++) run(part);
        if (now() - start > o.seconds / samples / 2) break;
    }
    std::vector<std::vector<double>> taken(parts);
    for (double end = now() + o.seconds; taken[0].size() < samples && (taken[0].size() < least || now() < end);) {
        std::fill(part.begin(), part.end(), 0.0);
        for (long i = 0; i < repeat; i++) run(part);
        for (size_t k = 0; k < parts; k++) taken[k].push_back(part[k] / static_cast<double>(repeat));
    }
    std::transform(taken.begin(), taken.end(), part.begin(), median);
    return part;
}

// The same for a case of one part.
inline double measure(const options &o, const std::function<void()> &run) {
    return measure(o, 1, [&](std::vector<double> &part) {
        const double start = now();
        run();
        part[0] += now() - start;
    })[0];
}

inline void report(const std::string &name, const char *unit, double number) {
    std::printf("%s\t%s\t%.10g\n", name.c_str(), unit, number);
    std::fflush(stdout);
}

// sin(step i + 1)
template <typename T> std::vector<T> sines(long count, double step) {
    std::vector<T> made(static_cast<size_t>(count));
    for (size_t i = 0; i < made.size(); i++) made[i] = static_cast<T>(std::sin(step * static_cast<double>(i) + 1));
    return made;
}

// As bench_fingerprint in bench/bench.h.
template <typename T> double fingerprint(const T *values, long count) {
    double sum = 0;
    for (long i = 0; i < count; i++) {
        const double weighted = static_cast<double>(values[i]) * (1 + static_cast<double>(i % 8) / 8);
        sum += 2 * std::fabs(weighted) + weighted;
    }
    return sum;
}

// The cases of bench/scalar.c: `record` records a chain of n operations, `back` gives dy/dx.
inline void scalars(const options &o, const std::vector<const char *> &sizes,
                    const std::function<void(long n)> &record, const std::function<double()> &back) {
    if (o.threads > 1) return;
    for (const char *size : sizes) {
        const std::string names[] = {std::string("scalar f64 record ops=") + size,
                                     std::string("scalar f64 back ops=") + size};
        if (!o.wants(names[0]) && !o.wants(names[1])) continue;
        const long n = static_cast<long>(std::atof(size));
        double gradient = 0;
        const call run = [&](std::vector<double> &part) {
            const double start = now();
            record(n);
            const double recorded = now();
            gradient = back();
            part[0] += recorded - start;
            part[1] += now() - recorded;
        };
        std::vector<double> seconds(2);
        if (o.check)
            run(seconds);
        else
            seconds = measure(o, 2, run);
        for (size_t i = 0; i < 2; i++) {
            if (!o.wants(names[i])) continue;
            if (o.check)
                report(names[i], "dy/dx", gradient);
            else
                report(names[i], "ns/op", 1e9 / static_cast<double>(n) * seconds[i]);
        }
    }
}

} // namespace peer
