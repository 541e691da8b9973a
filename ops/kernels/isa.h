/* What every file here that is compiled once per instruction set begins with: the build defines AD_ISA (baseline, avx2,
 * avx512), and AD_NAME(f) is then the name of f for it. */
#ifndef AD_ISA_H
#define AD_ISA_H

#include "ops/kernels/kernels.h"

#ifndef AD_ISA
#define AD_ISA baseline
#endif
#define AD_PASTE_(name, isa) ad_##name##_##isa
#define AD_PASTE(name, isa)  AD_PASTE_(name, isa)
#define AD_NAME(name)        AD_PASTE(name, AD_ISA)

void AD_NAME(unary_flat)(ad_unary op, ad_dtype dtype, int64_t n, const void *x, void *y, const double *c);
void AD_NAME(unary_back_flat)(ad_unary op, ad_dtype dtype, int64_t n, const void *g, const void *x, const void *y,
                              void *x_bar, bool add, const double *c);
void AD_NAME(binary_flat)(ad_binary op, ad_dtype dtype, int64_t n, const void *a, const void *b, void *y);
void AD_NAME(binary_back_flat)(ad_binary op, int which, ad_dtype dtype, int64_t n, const void *g, const void *a,
                               const void *b, const void *y, void *bar, bool add);
void AD_NAME(unary)(ad_unary op, const ad_view *x, const ad_view *y, const double *c);
void AD_NAME(unary_back)(ad_unary op, const ad_view *g, const ad_view *x, const ad_view *y, const ad_view *x_bar,
                         bool add, const double *c);
void AD_NAME(binary)(ad_binary op, const ad_view *a, const ad_view *b, const ad_view *y);
void AD_NAME(binary_back)(ad_binary op, int which, const ad_view *g, const ad_view *a, const ad_view *b,
                          const ad_view *y, const ad_view *bar, bool add);
void AD_NAME(compare)(ad_compare op, const ad_view *a, const ad_view *b, const ad_view *y);
void AD_NAME(select)(const ad_view *condition, const ad_view *a, const ad_view *b, const ad_view *y);
void AD_NAME(fill)(const ad_view *y, double value);
void AD_NAME(copy)(const ad_view *x, const ad_view *y, double scale, bool add);

void AD_NAME(sum_to)(const ad_view *x, const ad_view *y, double divisor, bool add);
double AD_NAME(sum_of_squares)(const ad_view *x);
void AD_NAME(reduce)(ad_reduction row, const ad_view *x, const ad_view *c, double p, const ad_view *y);
void AD_NAME(reduce_back)(ad_reduction_back row, const ad_view *g, const ad_view *x, const ad_view *c, double p,
                          const ad_view *x_bar, bool add);
bool AD_NAME(all_finite)(const ad_view *x);

size_t AD_NAME(gemm_scratch)(const ad_gemm *problem);
void AD_NAME(gemm)(const ad_gemm *problem, void *scratch);
void AD_NAME(gemm_part)(const ad_gemm *problem, int64_t i0, int64_t i1, int64_t j0, int64_t j1, void *scratch);

double AD_NAME(dot)(const double *x, const double *y, int64_t n);
void AD_NAME(rotate)(double *x, double *y, double c, double s, int64_t n);

void AD_NAME(softmax)(const ad_view *x, int axis, const ad_view *y);
void AD_NAME(softmax_back)(const ad_view *g, const ad_view *y, int axis, const ad_view *x_bar, bool add);
void AD_NAME(log_softmax)(const ad_view *x, int axis, const ad_view *y);
void AD_NAME(log_softmax_back)(const ad_view *g, const ad_view *y, int axis, const ad_view *x_bar, bool add);
void AD_NAME(softmax_xent)(const ad_view *x, const ad_view *target, const ad_view *loss, const ad_view *p);
void AD_NAME(softmax_xent_back)(const ad_view *g, const ad_view *p, const ad_view *target, const ad_view *x_bar,
                                bool add);

void AD_NAME(standardize)(const ad_standardize *s);
void AD_NAME(standardize_back)(const ad_standardize *s);

void AD_NAME(lstm)(ad_dtype dtype, int64_t rows, int64_t n, const void *gates, const void *c, void *h, void *c_next);
void AD_NAME(lstm_back)(const ad_lstm_back *back);
void AD_NAME(lstm_back_jvp)(const ad_lstm_back_jvp *jvp);

void AD_NAME(columns)(const struct ad_convolution *c, int64_t k0, int64_t k1, void *x, int64_t first, int64_t last,
                      void *columns, bool back);
bool AD_NAME(direct_plan)(const struct ad_convolution *c, ad_side result, int threads, struct ad_direct *d);
void AD_NAME(direct_prepare)(const struct ad_direct *d);
void AD_NAME(direct)(const void *context, int64_t from, int64_t to, int worker);
void AD_NAME(max_pool)(const struct ad_windows *windows, ad_dtype dtype, int64_t planes, const void *x, void *y,
                       int64_t *index);
void AD_NAME(max_pool_back)(const struct ad_windows *windows, ad_dtype dtype, int64_t planes, const void *g,
                            const int64_t *index, void *x_bar, bool add);

void AD_NAME(attend)(const ad_scores *block, double *largest, double *sum, double *factor);
void AD_NAME(attend_again)(const ad_scores *block, const double *logs);
void AD_NAME(attend_back)(const ad_scores *block, const double *less, void *p_bar, void *scaled);
void AD_NAME(scale_rows)(ad_dtype dtype, int64_t rows, int64_t columns, const double *factor, void *x);

void AD_NAME(gather)(const ad_view *x, int axis, const ad_view *index, const ad_view *y);
void AD_NAME(scatter_add)(const ad_view *x, int axis, const ad_view *index, const ad_view *y);
int64_t AD_NAME(find_bad_index)(const ad_view *index, int64_t bound);

void AD_NAME(sgd)(ad_dtype dtype, int64_t n, void *w, const void *g, void *velocity, const ad_sgd_step *step);
void AD_NAME(adam)(ad_dtype dtype, int64_t n, void *w, const void *g, void *m, void *v, const ad_adam_step *step);
void AD_NAME(rescale)(ad_dtype dtype, int64_t n, void *x, double factor);

#endif
