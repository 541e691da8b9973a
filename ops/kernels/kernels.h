/* How things are computed: loops over raw memory, compiled once per instruction set and chosen at run time.
 *
 * A kernel knows no tape and no op. It trusts its caller: dtypes and shapes agree as stated, indices are in range,
 * results do not overlap inputs (unless stated). Inputs may have any strides, results too unless called row-major.
 * `add` false: the result is written and its old content never read; true: added to. Every result element is computed
 * by one thread in one fixed order, whatever the machine's vector width says about speed, and however many threads share
 * the work (those of the table do so where it pays). f32 and f64 only, unless stated. */
#ifndef AD_KERNELS_H
#define AD_KERNELS_H

#include "autodiff/base/base.h"
#include "ops/kernels/elementwise_table.h"
#include "ops/kernels/reduce_table.h"

typedef enum ad_unary {
#define X(name, ...) AD_UNARY_##name,
    AD_UNARY_ROWS(X) AD_UNARY_CONSTANT_ROWS(X) AD_UNARY_BOUNDS_ROWS(X) AD_STEP_ROWS(X)
#undef X
        AD_UNARY_COUNT
} ad_unary;

typedef enum ad_compare {
#define X(name, ...) AD_COMPARE_##name,
    AD_COMPARE_ROWS(X) AD_TEST_ROWS(X)
#undef X
        AD_COMPARE_COUNT
} ad_compare;

typedef enum ad_binary {
#define X(name, ...) AD_BINARY_##name,
    AD_BINARY_ROWS(X) AD_LOSS_ROWS(X)
#undef X
        AD_BINARY_COUNT
} ad_binary;

typedef enum ad_reduction {
#define X(name, ...) AD_REDUCTION_##name,
    AD_REDUCTION_ROWS(X)
#undef X
} ad_reduction;

typedef enum ad_reduction_back {
#define X(name, ...) AD_REDUCTION_BACK_##name,
    AD_REDUCTION_BACK_ROWS(X)
#undef X
} ad_reduction_back;

/* C[m,n] (+)= A[m,k] B[k,n] (+ bias[m,n]); rs, cs: row and column strides in elements, any sign, 0 allowed for all but C.
 * k = 0 gives zeros. C's rows or columns have unit stride or not; it does not overlap the others. */
typedef struct ad_gemm {
    ad_dtype dtype;
    int64_t m, n, k;
    const void *a;
    int64_t rsa, csa;
    const void *b;
    int64_t rsb, csb;
    void *c;
    int64_t rsc, csc;
    bool add;
    const void *bias; /* NULL: none; there is none where `add` is set */
    int64_t rs_bias, cs_bias;
    int threads; /* that may share it, each with scratch memory of its own; 0 is 1 */
} ad_gemm;

/* The same by the CBLAS library that the build was given, with as many threads as that likes. False: it could not name
 * these matrices, and nothing was computed. */
bool ad_blas_gemm(const ad_gemm *problem);

/* Its multiplications, as f32; so many are work for two microseconds; and how many threads should share it. */
enum { AD_GEMM_GRAIN = 1 << 18 };
static inline int64_t ad_gemm_work(const ad_gemm *problem) {
    const double work = (double)problem->m * (double)problem->n * (double)problem->k;
    return work < 0x1p60 ? (int64_t)(problem->dtype == AD_F32 ? work : 2 * work) : INT64_MAX;
}
static inline int ad_gemm_threads(const ad_gemm *problem) {
    const int64_t most = problem->m > problem->n ? problem->m : problem->n;
    const int threads = ad_parallel_workers(ad_gemm_work(problem), AD_GEMM_GRAIN);
    return most < threads ? (int)most : threads;
}

/* One fused step of Adam (Kingma and Ba 2015), with decoupled decay when `decoupled` (Loshchilov and Hutter 2019). */
typedef struct ad_adam_step {
    double rate, beta1, beta2, epsilon, decay;
    double correction1, correction2; /* 1 - beta1^t, 1 - beta2^t */
    bool decoupled;
} ad_adam_step;

/* v = momentum v + (g + decay w); w -= rate (nesterov ? g + decay w + momentum v : v). */
typedef struct ad_sgd_step {
    double rate, momentum, decay;
    bool nesterov;
} ad_sgd_step;

/* Rows of x, which lie along the axes `reduced` (as bits), are standardized: y = (x - mean) w / sqrt(square + epsilon) + b.
 * square is the variance of the row or, not `centred`, the mean of its squares, with a mean of 0. */
typedef struct ad_standardize {
    unsigned reduced;
    bool centred;
    double epsilon;
    ad_view x, w, b, y;              /* of one shape, as are g, x_bar and product */
    ad_view mean, square;            /* length 1 along the axes of a row; mean unused if not centred */
    ad_view g, mean_bar, square_bar; /* the cotangents of y, mean and square */
    ad_view x_bar, product;          /* (+)= the contribution to x, and = g (y - b) / w; data NULL: not wanted */
    bool add;                        /* to x_bar */
} ad_standardize;

/* A block of scores of attention: x holds the products of queries and keys, row-major [rows, columns], and the scores are
 * scale x + mask. If `causal`, row i sees the columns up to diagonal + i. */
typedef struct ad_scores {
    ad_dtype dtype;
    int64_t rows, columns, diagonal;
    bool causal;
    double scale;
    void *x;
    ad_view mask; /* rows x columns; data NULL: there is none */
} ad_scores;

/* From the cotangents of an LSTM cell's results to those of its gates and state. All row-major:
 * gates [rows, 4 n], the others [rows, n]. */
typedef struct ad_lstm_back {
    ad_dtype dtype;
    int64_t rows, n;
    const void *gates, *c, *c_next, *h_bar, *c_next_bar;
    void *gates_bar, *c_bar;
    void *row; /* scratch for n numbers */
} ad_lstm_back;

/* How gates_bar and c_bar of ad_lstm_back move when all that they are made of does. */
typedef struct ad_lstm_back_jvp {
    ad_dtype dtype;
    int64_t rows, n;
    const void *gates, *c, *h_bar, *c_next_bar;
    const void *gates_dot, *c_dot, *h_bar_dot, *c_next_bar_dot;
    void *gates_bar_dot, *c_bar_dot;
} ad_lstm_back_jvp;

struct ad_windows; /* of images: window.h */
struct ad_convolution;
struct ad_direct; /* direct.h */
/* Of a convolution: sum(y_bar * (w * x)) is linear in each of x, w and y_bar. */
typedef enum ad_side { AD_SIDE_X, AD_SIDE_W, AD_SIDE_Y } ad_side;

typedef struct ad_kernels {
    const char *isa; /* "baseline", "avx2", "avx512" */

    /* Elementwise. Inputs and results have one shape (broadcast inputs have strides of 0). Inputs that the row does
     * not use may have data NULL. */
    /* Of n neighbours. */
    void (*unary_flat)(ad_unary op, ad_dtype dtype, int64_t n, const void *x, void *y, const double *c);
    void (*unary_back_flat)(ad_unary op, ad_dtype dtype, int64_t n, const void *g, const void *x, const void *y,
                            void *x_bar, bool add, const double *c);
    void (*binary_flat)(ad_binary op, ad_dtype dtype, int64_t n, const void *a, const void *b, void *y);
    void (*binary_back_flat)(ad_binary op, int which, ad_dtype dtype, int64_t n, const void *g, const void *a,
                             const void *b, const void *y, void *bar, bool add);
    void (*unary)(ad_unary op, const ad_view *x, const ad_view *y, const double *c);
    void (*unary_back)(ad_unary op, const ad_view *g, const ad_view *x, const ad_view *y, const ad_view *x_bar,
                       bool add, const double *c);
    void (*binary)(ad_binary op, const ad_view *a, const ad_view *b, const ad_view *y);
    /* `which` 0: the contribution to a, 1: to b. */
    void (*binary_back)(ad_binary op, int which, const ad_view *g, const ad_view *a, const ad_view *b,
                        const ad_view *y, const ad_view *bar, bool add);
    /* Any dtype in, i32 out. Tests of one number are given it twice. */
    void (*compare)(ad_compare op, const ad_view *a, const ad_view *b, const ad_view *y);
    void (*select)(const ad_view *condition, const ad_view *a, const ad_view *b, const ad_view *y); /* any dtypes;
                                                                             a, b and y of one */

    void (*fill)(const ad_view *y, double value);                             /* any dtype */
    void (*copy)(const ad_view *x, const ad_view *y, double scale, bool add); /* y (+)= scale x */
    /* y (+)= 1 / divisor * the sum of x over the axes along which y's shape is 1 or (on the left) missing. Accumulates
     * in double, block by block (beyond a block, the error grows with the logarithm of the number of elements). */
    void (*sum_to)(const ad_view *x, const ad_view *y, double divisor, bool add);
    double (*sum_of_squares)(const ad_view *x);
    /* A row of reduce_table.h over the axes along which y's shape is 1 or missing. c: f64, of y's shape; NULL if the row
     * does not use it. The dtype of y may be another than that of x. */
    void (*reduce)(ad_reduction row, const ad_view *x, const ad_view *c, double p, const ad_view *y);
    /* x_bar (+)= the contributions to x. g and c: f64, stretched to the shape of x. */
    void (*reduce_back)(ad_reduction_back row, const ad_view *g, const ad_view *x, const ad_view *c, double p,
                        const ad_view *x_bar, bool add);
    bool (*all_finite)(const ad_view *x);

    /* Bytes of scratch memory (aligned to 64) that gemm needs for this problem, perhaps 0; gemm_part needs no more. */
    size_t (*gemm_scratch)(const ad_gemm *problem);
    void (*gemm)(const ad_gemm *problem, void *scratch);
    /* Rows i0 to i1 and columns j0 to j1 of C alone, with the bits they have in the whole. */
    void (*gemm_part)(const ad_gemm *problem, int64_t i0, int64_t i1, int64_t j0, int64_t j1, void *scratch);

    /* Of n contiguous doubles: the sum of x y, in eight lanes; and x, y = c x - s y, s x + c y. */
    double (*dot)(const double *x, const double *y, int64_t n);
    void (*rotate)(double *x, double *y, double c, double s, int64_t n);

    /* Along `axis` (0 <= axis < rank; a rank-0 x is one row of one). A row of all -inf gives zeros (softmax) or -inf
     * (log_softmax), gradient zeros. g: cotangent of y. */
    void (*softmax)(const ad_view *x, int axis, const ad_view *y);
    void (*softmax_back)(const ad_view *g, const ad_view *y, int axis, const ad_view *x_bar, bool add);
    void (*log_softmax)(const ad_view *x, int axis, const ad_view *y);
    void (*log_softmax_back)(const ad_view *g, const ad_view *y, int axis, const ad_view *x_bar, bool add);

    /* Cross-entropy of softmax(x) over the last axis, through log-sum-exp: x[..., C]; target: i32 or i64 [...] in
     * [0, C), or of x's dtype [..., C]; loss[...]; p[..., C] = softmax(x). */
    void (*softmax_xent)(const ad_view *x, const ad_view *target, const ad_view *loss, const ad_view *p);
    /* x_bar (+)= g (p sum(target) - target); rows where g is 0 get exact zeros. g has the shape of loss. */
    void (*softmax_xent_back)(const ad_view *g, const ad_view *p, const ad_view *target, const ad_view *x_bar,
                              bool add);

    void (*standardize)(const ad_standardize *s);      /* writes y, mean and square */
    void (*standardize_back)(const ad_standardize *s); /* writes x_bar and product */

    /* Of each row, `largest` is the largest score so far, `sum` that of exp(score - largest). With those of the block both
     * are brought up to date, x becomes exp(score - largest), 0 where nothing is seen, and `factor` what all that was made
     * with the old `largest` must be multiplied by. */
    void (*attend)(const ad_scores *block, double *largest, double *sum, double *factor);
    /* x becomes exp(score - log), the probabilities if that is the log of the row's sum of exponentials. */
    void (*attend_again)(const ad_scores *block, const double *log);
    /* x holds probabilities p, p_bar their cotangents, which become those of the scores, p (p_bar - less), 0 where p is;
     * `scaled` gets the same times scale. p_bar and scaled are row-major too. */
    void (*attend_back)(const ad_scores *block, const double *less, void *p_bar, void *scaled);
    void (*scale_rows)(ad_dtype dtype, int64_t rows, int64_t columns, const double *factor, void *x); /* row-major */

    /* Of gates i, f, g, o: c_next = sigmoid(f) c + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c_next). Shapes as above. */
    void (*lstm)(ad_dtype dtype, int64_t rows, int64_t n, const void *gates, const void *c, void *h, void *c_next);
    void (*lstm_back)(const ad_lstm_back *back);
    void (*lstm_back_jvp)(const ad_lstm_back_jvp *jvp);

    /* The columns that the windows in rows [first, last) make of the channels of one group of an image, of their elements
     * those from k0 to k1: written to where they are in the whole, or, `back`, added from there to the image. */
    void (*columns)(const struct ad_convolution *c, int64_t k0, int64_t k1, void *x, int64_t first, int64_t last,
                    void *columns, bool back);
    /* Whether the loops of direct.h promise to be faster than columns, and how they go about it; what all threads read; and
     * items of work, for ad_parallel, with an ad_direct as the context. */
    bool (*direct_plan)(const struct ad_convolution *c, ad_side result, int threads, struct ad_direct *d);
    void (*direct_prepare)(const struct ad_direct *d);
    ad_work *direct;
    /* The largest element that each window sees, which is one at least: the first of equal ones or the first NaN, and where
     * in its plane it is. And back: x_bar (+)= g at the indices, 0 elsewhere. All row-major. */
    void (*max_pool)(const struct ad_windows *windows, ad_dtype dtype, int64_t planes, const void *x, void *y,
                     int64_t *index);
    void (*max_pool_back)(const struct ad_windows *windows, ad_dtype dtype, int64_t planes, const void *g,
                          const int64_t *index, void *x_bar, bool add);

    /* y[.., j, ..] = x[.., index[.., j, ..], ..]: y and index have one shape; index is i32 or i64; x, y any dtype. */
    void (*gather)(const ad_view *x, int axis, const ad_view *index, const ad_view *y);
    /* y[.., index[.., j, ..], ..] += x[.., j, ..], in row-major order of index; x and index have one shape. */
    void (*scatter_add)(const ad_view *x, int axis, const ad_view *index, const ad_view *y);
    /* The row-major position of the first index outside [0, bound), or -1. */
    int64_t (*find_bad_index)(const ad_view *index, int64_t bound);

    /* n elements each, row-major. velocity NULL: no momentum. */
    void (*sgd)(ad_dtype dtype, int64_t n, void *w, const void *g, void *velocity, const ad_sgd_step *step);
    void (*adam)(ad_dtype dtype, int64_t n, void *w, const void *g, void *m, void *v, const ad_adam_step *step);
    void (*rescale)(ad_dtype dtype, int64_t n, void *x, double factor); /* x *= factor */
} ad_kernels;

/* The best table for this machine, chosen at the first call; thread-safe. The environment variable ADTAPE_ISA
 * ("baseline", "avx2", "avx512") may choose a lower one. */
const ad_kernels *ad_kernels_get(void);
/* Table number i of those that run on this machine, from the plainest on; NULL past the end. */
const ad_kernels *ad_kernels_table(int i);

#endif
