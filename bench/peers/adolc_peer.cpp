// The cases of bench/scalar.c with ADOL-C: recording a chain on its tape, and walking that back.
//
//     adolc_peer [--threads N] [--only TEXT] [check]

#include <adolc/adolc.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr short tag = 0;
constexpr int samples = 15, least = 3;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// x <- (x b) + c, n operations in all; the values are kept for the walk back.
void record(long n) {
    double y_value;
    trace_on(tag, 1);
    adouble x, b, c;
    x <<= 1.0;
    b <<= 1 - 1e-6;
    c <<= 1e-6;
    adouble y = x;
    for (long i = 0; i < n; i += 2) {
        y = y * b;
        y = y + c;
    }
    y >>= y_value;
    trace_off();
}

double back() {
    double seed = 1.0, gradient[3];
    reverse(tag, 1, 3, 0, &seed, gradient);
    return gradient[0];
}

double median(std::vector<double> &values) {
    std::sort(values.begin(), values.end());
    const size_t n = values.size();
    return n % 2 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

struct options {
    const char *only = "";
    bool check = false;
    double seconds = 0.1;
    bool wants(const std::string &name) const { return name.find(only) != std::string::npos; }
};

void run(const options &o, const char *size) {
    const long n = static_cast<long>(std::atof(size));
    const std::string names[] = {std::string("scalar f64 record ops=") + size,
                                 std::string("scalar f64 back ops=") + size};
    if (!o.wants(names[0]) && !o.wants(names[1])) return;
    std::vector<double> parts[2];
    record(n);
    const double gradient = back();
    const long repeat = std::max(1L, 100000 / n);
    for (double end = now() + o.seconds; !o.check && parts[0].size() < samples;) {
        double recording = 0, walking = 0;
        for (long r = 0; r < repeat; r++) {
            const double start = now();
            record(n);
            const double recorded = now();
            back();
            walking += now() - recorded;
            recording += recorded - start;
        }
        parts[0].push_back(recording / static_cast<double>(n * repeat));
        parts[1].push_back(walking / static_cast<double>(n * repeat));
        if (parts[0].size() >= least && now() > end) break;
    }
    for (int i = 0; i < 2; i++) {
        if (!o.wants(names[i])) continue;
        if (o.check)
            std::printf("%s\tdy/dx\t%.10g\n", names[i].c_str(), gradient);
        else
            std::printf("%s\tns/op\t%.6g\n", names[i].c_str(), 1e9 * median(parts[i]));
        std::fflush(stdout);
    }
}

} // namespace

int main(int argc, char **argv) {
    options o;
    if (const char *seconds = std::getenv("ADTAPE_BENCH_SECONDS")) o.seconds = std::atof(seconds);
    for (int i = 1; i < argc; i++) {
        if (std::strcmp(argv[i], "check") == 0) o.check = true;
        if (std::strcmp(argv[i], "--only") == 0 && i + 1 < argc) o.only = argv[++i];
        if (std::strcmp(argv[i], "--threads") == 0 && i + 1 < argc && std::atoi(argv[++i]) > 1) return 0;
    }
    for (const char *size : {"1e3", "1e4", "1e5", "1e6", "1e7"}) run(o, size);
}
