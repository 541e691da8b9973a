/* Tapes of millions of nodes: nothing recurses, and nothing takes time that grows faster than the tape. */
#include "tapes.h"

#include "autodiff/tape/tape.h"

#include <criterion/criterion.h>
#include <time.h>

static double seconds(void) {
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* How long the walk back takes over a chain of n selections, whose derivative is written in ops only. */
static double walk_of_selections(int n) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){1, 2}), y = x;
    ad_var mask = ad_constant(t, "mask", AD_I32, AD_SHAPE(2), (int32_t[]){1, 0});
    for (int i = 0; i < n; i++) y = ad_where(mask, y, x);
    y = ad_sum(y, AD_ALL_AXES, false);
    double start = seconds();
    ad_backward(y);
    double end = seconds();
    cr_assert_eq(ad_tape_status(t), AD_OK, "%s", ad_tape_error(t));
    expect_values(ad_gradient(x), 1, 1);
    ad_tape_free(t);
    return end - start;
}

Test(deep, a_walk_over_derivatives_written_in_ops_takes_time_in_proportion) {
    (void)walk_of_selections(2000);
    double few = walk_of_selections(2000), many = walk_of_selections(200000);
    cr_assert_lt(many, 600 * few, "2,000 operations took %.4f s, 200,000 took %.4f s", few, many);
}
