/* Inside the ops layer: what attention shares with its derivatives. */
#ifndef AD_OPS_ATTENTION_H
#define AD_OPS_ATTENTION_H

#include "ops/linalg.h"

typedef struct ad_attention_attrs {
    double scale;
    bool causal;
} ad_attention_attrs;

/* Checks that queries, keys and values, inputs 0 to 2, fit, and a mask, input number `mask` unless that is 0. */
ad_status ad_attention_check(ad_call *call, int mask);
/* Results 0 and 1 of inputs that fit: like the queries with the width of the values, and a number for each query. */
void ad_attention_set_results(ad_call *call);
/* A mask, or what goes with it, with the shape of the scores of inputs 0 and 1. */
ad_view ad_attention_mask(const ad_call *call, const ad_view *mask);
/* Matrix `number` of a stack. */
ad_view ad_matrix_at(const ad_view *stack, int64_t number);
/* Rows [row, row + rows) of a matrix, and columns likewise. */
ad_view ad_matrix_block(const ad_view *m, int64_t row, int64_t rows, int64_t column, int64_t columns);

/* scale q k^T + mask in ops, -inf where a causal one sees nothing; mask.tape NULL: there is none. */
ad_var ad_attention_scores(ad_var q, ad_var k, ad_var mask, const ad_attention_attrs *attrs);

extern const ad_attr ad_attention_attr_list[];
void ad_show_attention(const void *attrs, char *text, size_t size);

#endif
