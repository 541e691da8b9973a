/* The table of one instruction set. */
#include "ops/kernels/isa.h"

#define AD_TEXT_OF(isa)  #isa
#define AD_ISA_TEXT(isa) AD_TEXT_OF(isa)

extern const ad_kernels AD_NAME(kernels);
const ad_kernels AD_NAME(kernels) = {
    .isa = AD_ISA_TEXT(AD_ISA),
    .unary = AD_NAME(unary),
    .unary_back = AD_NAME(unary_back),
    .binary = AD_NAME(binary),
    .binary_back = AD_NAME(binary_back),
    .compare = AD_NAME(compare),
    .select = AD_NAME(select),
    .fill = AD_NAME(fill),
    .copy = AD_NAME(copy),
    .sum_to = AD_NAME(sum_to),
    .sum_of_squares = AD_NAME(sum_of_squares),
    .reduce = AD_NAME(reduce),
    .reduce_back = AD_NAME(reduce_back),
    .all_finite = AD_NAME(all_finite),
    .gemm_scratch = AD_NAME(gemm_scratch),
    .gemm = AD_NAME(gemm),
    .gemm_part = AD_NAME(gemm_part),
    .dot = AD_NAME(dot),
    .rotate = AD_NAME(rotate),
    .softmax = AD_NAME(softmax),
    .softmax_back = AD_NAME(softmax_back),
    .log_softmax = AD_NAME(log_softmax),
    .log_softmax_back = AD_NAME(log_softmax_back),
    .softmax_xent = AD_NAME(softmax_xent),
    .softmax_xent_back = AD_NAME(softmax_xent_back),
    .standardize = AD_NAME(standardize),
    .standardize_back = AD_NAME(standardize_back),
    .attend = AD_NAME(attend),
    .attend_again = AD_NAME(attend_again),
    .attend_back = AD_NAME(attend_back),
    .scale_rows = AD_NAME(scale_rows),
    .gather = AD_NAME(gather),
    .scatter_add = AD_NAME(scatter_add),
    .find_bad_index = AD_NAME(find_bad_index),
    .sgd = AD_NAME(sgd),
    .adam = AD_NAME(adam),
    .rescale = AD_NAME(rescale),
};
