// The cases of bench/scalar.c with ADOL-C: recording a chain on its tape, and walking that back.
#include "peer.hpp"

#include <adolc/adolc.h>

namespace {

constexpr short tag = 0;

// x <- (x b) + c, n operations in all; the values are kept for the walk back.
void record(long n) {
    double value;
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
    y >>= value;
    trace_off();
}

double back() {
    double seed = 1.0, gradient[3];
    reverse(tag, 1, 3, 0, &seed, gradient);
    return gradient[0];
}

} // namespace

int main(int argc, char **argv) {
    peer::scalars(peer::options(argc, argv), {"1e3", "1e4", "1e5", "1e6", "1e7"}, record, back);
}
