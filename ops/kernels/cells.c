/* The elementwise part of recurrent cells, in one pass. */
#include "ops/kernels/elementary.h"
#include "ops/kernels/isa.h"

#define T       float
#define S(name) name##_f32
#include "ops/kernels/cells_typed.h"
#undef T
#undef S

#define T       double
#define S(name) name##_f64
#include "ops/kernels/cells_typed.h"
#undef T
#undef S

void AD_NAME(lstm)(ad_dtype dtype, int64_t rows, int64_t n, const void *gates, const void *c, void *h, void *c_next) {
    if (dtype == AD_F32)
        lstm_f32(rows, n, gates, c, h, c_next);
    else
        lstm_f64(rows, n, gates, c, h, c_next);
}

void AD_NAME(lstm_back)(const ad_lstm_back *back) {
    if (back->dtype == AD_F32)
        lstm_back_f32(back);
    else
        lstm_back_f64(back);
}

void AD_NAME(lstm_back_jvp)(const ad_lstm_back_jvp *jvp) {
    if (jvp->dtype == AD_F32)
        lstm_back_jvp_f32(jvp);
    else
        lstm_back_jvp_f64(jvp);
}
