/* What attention does between its matrix products: scores to probabilities, and back, a block at a time. */
#include "ops/kernels/elementary.h"
#include "ops/kernels/isa.h"

#include <math.h>

/* How many columns of the block row i sees. */
static int64_t seen_by(const ad_scores *b, int64_t i) {
    if (!b->causal) return b->columns;
    const int64_t seen = b->diagonal + i + 1;
    return seen < 0 ? 0 : seen > b->columns ? b->columns : seen;
}

#define T       float
#define S(name) name##_f32
#include "ops/kernels/attention_typed.h"
#undef T
#undef S

#define T       double
#define S(name) name##_f64
#include "ops/kernels/attention_typed.h"
#undef T
#undef S

void AD_NAME(attend)(const ad_scores *block, double *largest, double *sum, double *factor) {
    (block->dtype == AD_F32 ? attend_f32 : attend_f64)(block, largest, sum, factor);
}
void AD_NAME(attend_again)(const ad_scores *block, const double *logs) {
    (block->dtype == AD_F32 ? attend_again_f32 : attend_again_f64)(block, logs);
}
void AD_NAME(attend_back)(const ad_scores *block, const double *less, void *p_bar, void *scaled) {
    (block->dtype == AD_F32 ? attend_back_f32 : attend_back_f64)(block, less, p_bar, scaled);
}
void AD_NAME(scale_rows)(ad_dtype dtype, int64_t rows, int64_t columns, const double *factor, void *x) {
    if (dtype == AD_F32)
        scale_rows_f32(rows, columns, factor, x);
    else
        scale_rows_f64(rows, columns, factor, x);
}
