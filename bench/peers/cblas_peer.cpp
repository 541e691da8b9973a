// The cases of bench/gemm.c with OpenBLAS, called through cblas.
#include "peer.hpp"

#include <cblas.h>

namespace {

void gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, const float *a, int lda, const float *b,
          int ldb, float *c) {
    cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, 1, a, lda, b, ldb, 0, c, n);
}
void gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, const double *a, int lda, const double *b,
          int ldb, double *c) {
    cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, 1, a, lda, b, ldb, 0, c, n);
}

// "nt": B is stored transposed.
template <typename T> void run(const peer::options &o, const std::string &transposed, int m, int n, int k) {
    const std::string square = "n=" + std::to_string(n);
    const std::string sizes = std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k);
    const std::string name = std::string("gemm ") + (sizeof(T) == 8 ? "f64 " : "f32 ") + transposed + " " +
                             (m == n && n == k ? square : sizes);
    if (!o.wants(name)) return;
    const bool ta = transposed[0] == 't', tb = transposed[1] == 't';
    const std::vector<T> a = peer::sines<T>(long(m) * k, 0.37), b = peer::sines<T>(long(k) * n, 0.73);
    std::vector<T> c(size_t(m) * size_t(n));
    const auto multiply = [&] {
        gemm(ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, m, n, k, a.data(), ta ? m : k, b.data(),
             tb ? k : n, c.data());
    };
    if (o.check) {
        multiply();
        peer::report(name, "product", peer::fingerprint(c.data(), long(m) * n));
    } else {
        peer::report(name, "us", 1e6 * peer::measure(o, multiply));
    }
}

template <typename T> void run_squares(const peer::options &o, int largest) {
    for (int n = 8; n <= largest; n *= 2) run<T>(o, "nn", n, n, n);
    for (const char *transposed : {"nt", "tn", "tt"}) run<T>(o, transposed, 256, 256, 256);
}

} // namespace

int main(int argc, char **argv) {
    const peer::options o(argc, argv);
    openblas_set_num_threads(o.threads);
    run_squares<float>(o, 2048);
    for (const char *transposed : {"nn", "nt"}) run<float>(o, transposed, 64, 256, 784);
    run<float>(o, "tn", 784, 256, 64);
    for (const char *transposed : {"nn", "nt"}) run<float>(o, transposed, 64, 10, 256);
    run_squares<double>(o, 1024);
}
