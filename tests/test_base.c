/* The base layer's small parts: statuses and messages, dtypes, shapes, single elements, random numbers. */
#include "helpers.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <math.h>
#include <string.h>

/* ---- statuses and messages --------------------------------------------------------------------------------------- */

Test(error, every_status_has_its_own_name) {
    for (int i = 0; i < AD_STATUS_COUNT; i++) {
        const char *name = ad_status_name((ad_status)i);
        cr_assert_eq(strncmp(name, i ? "AD_ERR_" : "AD_OK", i ? 7 : 6), 0, "status %d is called %s", i, name);
        for (int j = 0; j < i; j++) cr_assert_str_neq(name, ad_status_name((ad_status)j));
    }
    cr_assert_str_eq(ad_status_name(AD_STATUS_COUNT), "unknown status");
    cr_assert_str_eq(ad_status_name((ad_status)-1), "unknown status");
}

Test(error, setting_an_error_returns_the_status) {
    ad_error error = {.status = AD_OK, .message = "old"};
    cr_assert_eq(ad_error_set(&error, AD_ERR_SHAPE, "%s is %d", "x", 3), AD_ERR_SHAPE);
    cr_assert_eq(error.status, AD_ERR_SHAPE);
    cr_assert_str_eq(error.message, "x is 3");
    cr_assert_eq(ad_error_set(NULL, AD_ERR_OOM, "nobody %s", "reads this"), AD_ERR_OOM);
}

Test(error, a_long_message_ends_in_dots) {
    ad_error error;
    char text[2000];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    ad_error_set(&error, AD_ERR_VALUE, "%s", text);
    cr_assert_eq(strlen(error.message), sizeof error.message - 1);
    cr_assert_str_eq(error.message + sizeof error.message - 5, "a...");
    text[sizeof error.message - 1] = '\0';
    ad_error_set(&error, AD_ERR_VALUE, "%s", text);
    cr_assert_str_eq(error.message, text, "what just fits is kept");
}

static bool is_utf8(const char *text) {
    while (*text) {
        unsigned char lead = (unsigned char)*text++;
        int more = lead < 0x80 ? 0 : lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : -1;
        if (more < 0) return false;
        for (; more > 0; more--)
            if (((unsigned char)*text++ & 0xC0) != 0x80) return false;
    }
    return true;
}

Test(error, text_is_cut_between_characters_and_stays_in_its_buffer) {
    const char pieces[][12] = {"", "a", "\xC3\xA9", "x\xE2\x82\xAC", "\xF0\x9F\x99\x82z", "abcdefgh"};
    for (size_t size = 1; size <= 16; size++) {
        for (int seed = 0; seed < 200; seed++) {
            char buffer[32], whole[64] = "";
            size_t length = 0;
            memset(buffer, '#', sizeof buffer);
            buffer[0] = '\0';
            ad_rng rng = {.seed = (uint64_t)seed};
            for (int k = 0; k < 4; k++) {
                const char *piece = pieces[ad_rng_below(&rng, TEST_COUNT(pieces))];
                strcat(whole, piece);
                ad_text_add(buffer, size, &length, "%s", piece);
            }
            cr_assert(memchr(buffer, '\0', size), "not terminated");
            cr_assert_eq(buffer[size], '#', "written past the end");
            cr_assert_eq(length == size, strlen(whole) >= size);
            if (strlen(whole) < size) {
                cr_assert_str_eq(buffer, whole);
                cr_assert_eq(length, strlen(whole));
            } else if (size >= 4) {
                size_t end = strlen(buffer);
                cr_assert(end >= 3 && strcmp(buffer + end - 3, "...") == 0, "\"%s\" cut to \"%s\"", whole, buffer);
                cr_assert_eq(strncmp(buffer, whole, end - 3), 0);
                cr_assert(is_utf8(buffer), "\"%s\" cut to \"%s\"", whole, buffer);
            }
        }
    }
}

/* ---- dtypes and elements ----------------------------------------------------------------------------------------- */

Test(dtype, names_and_sizes) {
    const struct {
        ad_dtype dtype;
        const char *name;
        size_t size;
        bool is_float;
    } want[] = {{AD_F32, "f32", 4, true},  {AD_F64, "f64", 8, true},        {AD_I32, "i32", 4, false},
                {AD_I64, "i64", 8, false}, {AD_DTYPE_COUNT, "?", 0, false}, {(ad_dtype)-1, "?", 0, false}};
    for (int i = 0; i < TEST_COUNT(want); i++) {
        cr_assert_str_eq(ad_dtype_name(want[i].dtype), want[i].name);
        cr_assert_eq(ad_dtype_size(want[i].dtype), want[i].size);
        cr_assert_eq(ad_dtype_is_float(want[i].dtype), want[i].is_float);
    }
}

Test(dtype, an_element_set_reads_back) {
    for (int dtype = 0; dtype < AD_DTYPE_COUNT; dtype++) {
        int64_t memory = -1;
        for (int value = -3; value <= 3; value++) {
            ad_element_set(&memory, (ad_dtype)dtype, value);
            cr_assert_eq(ad_element_get(&memory, (ad_dtype)dtype), value);
        }
    }
    cr_assert(isnan(ad_element_get(&(double){1}, AD_DTYPE_COUNT)));
}

Test(dtype, integers_truncate_and_saturate) {
    const struct {
        double value;
        int32_t i32;
        int64_t i64;
    } want[] = {{1.9, 1, 1},
                {-1.9, -1, -1},
                {-0.0, 0, 0},
                {2147483646.5, 2147483646, 2147483646},
                {2147483647.5, INT32_MAX, 2147483647},
                {2147483648.0, INT32_MAX, 2147483648},
                {-2147483648.0, INT32_MIN, -2147483648LL},
                {-2147483649.0, INT32_MIN, -2147483649LL},
                {0x1.fffffffffffffp62, INT32_MAX, 0x7FFFFFFFFFFFFC00},
                {0x1p63, INT32_MAX, INT64_MAX},
                {-0x1p63, INT32_MIN, INT64_MIN},
                {-0x1.0000000000001p63, INT32_MIN, INT64_MIN},
                {INFINITY, INT32_MAX, INT64_MAX},
                {-INFINITY, INT32_MIN, INT64_MIN},
                {NAN, 0, 0}};
    for (int i = 0; i < TEST_COUNT(want); i++) {
        int32_t small;
        int64_t large;
        ad_element_set(&small, AD_I32, want[i].value);
        ad_element_set(&large, AD_I64, want[i].value);
        cr_assert_eq(small, want[i].i32, "%g became %d", want[i].value, small);
        cr_assert_eq(large, want[i].i64, "%g became %lld", want[i].value, (long long)large);
    }
}

/* ---- shapes ------------------------------------------------------------------------------------------------------ */

Test(shape, count_is_the_product_or_minus_1) {
    const int64_t big = INT64_C(1) << 40;
    const struct {
        ad_shape shape;
        int64_t count;
    } want[] = {{AD_SCALAR, 1},
                {AD_SHAPE(0), 0},
                {AD_SHAPE(7), 7},
                {AD_SHAPE(2, 3, 4), 24},
                {AD_SHAPE(5, 0, 4), 0},
                {AD_SHAPE(1, 2, 1, 2, 1, 2, 1, 2), 16},
                {AD_SHAPE(3, -1), -1},
                {AD_SHAPE(0, -1), -1},
                {AD_SHAPE(INT64_MIN), -1},
                {AD_SHAPE(INT64_MAX), -1},
                {AD_SHAPE(big, big), -1},
                {AD_SHAPE(big, big, 0), -1},
                {AD_SHAPE(0, big, big), -1},
                {AD_SHAPE(INT64_MAX, 0), -1},
                {AD_SHAPE(big, 0), 0},
                {(ad_shape){.rank = -1, .dim = {0}}, -1},
                {(ad_shape){.rank = AD_MAX_RANK + 1, .dim = {1, 1, 1, 1, 1, 1, 1, 1}}, -1},
                {(ad_shape){.rank = INT_MAX, .dim = {0}}, -1}};
    for (int i = 0; i < TEST_COUNT(want); i++)
        cr_assert_eq(ad_shape_count(&want[i].shape), want[i].count, "case %d gives %lld", i,
                     (long long)ad_shape_count(&want[i].shape));
    cr_assert_eq(ad_shape_count(NULL), -1);
}

Test(shape, the_bytes_of_a_counted_shape_fit_half_the_address_space) {
    const int64_t most = PTRDIFF_MAX / 2 / 8;
    cr_assert_eq(ad_shape_count(&AD_SHAPE(most)), most);
    cr_assert_eq(ad_shape_count(&AD_SHAPE(most + 1)), -1);
    for (int64_t n = 1; n < 5000; n++) {
        cr_assert_eq(ad_shape_count(&AD_SHAPE(n, most / n)), n * (most / n));
        cr_assert_eq(ad_shape_count(&AD_SHAPE(n, most / n + 1)), -1);
    }
}

Test(shape, equality_looks_at_rank_and_dimensions_in_use) {
    ad_shape a = {.rank = 2, .dim = {2, 3, 4}}, b = {.rank = 2, .dim = {2, 3, 5}};
    cr_assert(ad_shape_equal(&a, &b));
    b.rank = 3;
    cr_assert_not(ad_shape_equal(&a, &b));
    cr_assert_not(ad_shape_equal(&AD_SHAPE(2, 3), &AD_SHAPE(3, 2)));
    cr_assert_not(ad_shape_equal(&AD_SCALAR, &AD_SHAPE(1)));
    cr_assert(ad_shape_equal(&AD_SCALAR, &AD_SCALAR));
}

Test(shape, broadcasting_follows_numpy) {
    const struct {
        ad_shape a, b, out;
    } want[] = {{AD_SHAPE(3, 4), AD_SHAPE(4), AD_SHAPE(3, 4)},
                {AD_SHAPE(3, 1), AD_SHAPE(1, 4), AD_SHAPE(3, 4)},
                {AD_SCALAR, AD_SHAPE(2, 0), AD_SHAPE(2, 0)},
                {AD_SCALAR, AD_SCALAR, AD_SCALAR},
                {AD_SHAPE(1), AD_SHAPE(0), AD_SHAPE(0)},
                {AD_SHAPE(1, 1, 1), AD_SHAPE(5), AD_SHAPE(1, 1, 5)},
                {AD_SHAPE(8, 1, 6, 1), AD_SHAPE(7, 1, 5), AD_SHAPE(8, 7, 6, 5)},
                {AD_SHAPE(1, 2, 3, 4, 5, 6, 7, 8), AD_SHAPE(1), AD_SHAPE(1, 2, 3, 4, 5, 6, 7, 8)}};
    for (int i = 0; i < TEST_COUNT(want); i++) {
        ad_shape ab, ba;
        cr_assert_eq(ad_shape_broadcast(&want[i].a, &want[i].b, &ab), AD_OK);
        cr_assert_eq(ad_shape_broadcast(&want[i].b, &want[i].a, &ba), AD_OK);
        cr_assert(ad_shape_equal(&ab, &want[i].out) && ad_shape_equal(&ba, &want[i].out), "case %d", i);
    }
    ad_shape a = AD_SHAPE(3, 1);
    cr_assert_eq(ad_shape_broadcast(&a, &AD_SHAPE(1, 2), &a), AD_OK);
    cr_assert(ad_shape_equal(&a, &AD_SHAPE(3, 2)), "the result may replace an operand");
}

Test(shape, what_does_not_broadcast_is_refused) {
    const ad_shape pairs[][2] = {{AD_SHAPE(3), AD_SHAPE(4)},
                                 {AD_SHAPE(0), AD_SHAPE(2)},
                                 {AD_SHAPE(3, 4), AD_SHAPE(3)},
                                 {AD_SHAPE(2, 1), AD_SHAPE(3, 2)}};
    for (int i = 0; i < TEST_COUNT(pairs); i++) {
        ad_shape out = AD_SHAPE(77);
        cr_assert_eq(ad_shape_broadcast(&pairs[i][0], &pairs[i][1], &out), AD_ERR_SHAPE);
        cr_assert(ad_shape_equal(&out, &AD_SHAPE(77)), "out is left alone");
    }
}

Test(shape, a_broadcast_too_large_is_told_from_one_that_does_not_fit) {
    const int64_t big = INT64_C(1) << 40;
    ad_shape out = AD_SHAPE(77);
    cr_assert_eq(ad_shape_broadcast(&AD_SHAPE(big, 1), &AD_SHAPE(big), &out), AD_ERR_LIMIT);
}

Test(shape, type_text_always_fits) {
    char text[AD_TYPE_TEXT];
    cr_assert_str_eq(ad_type_text(AD_F64, &AD_SHAPE(4, 3), text), "f64[4,3]");
    cr_assert_str_eq(ad_type_text(AD_I64, &AD_SCALAR, text), "i64[]");
    cr_assert_str_eq(ad_type_text(AD_DTYPE_COUNT, &AD_SHAPE(0), text), "?[0]");
    cr_assert_str_eq(ad_type_text(AD_F32, &(ad_shape){.rank = 9, .dim = {0}}, text), "f32[rank 9]");
    cr_assert_str_eq(ad_type_text(AD_F32, &(ad_shape){.rank = INT_MIN, .dim = {0}}, text), "f32[rank -2147483648]");
    const int64_t least = INT64_MIN;
    ad_shape longest = AD_SHAPE(least, least, least, least, least, least, least, least);
    cr_assert_eq(ad_type_text(AD_F32, &longest, text), text);
    cr_assert_eq(text[strlen(text) - 1], ']');
}

Test(shape, axes_count_from_both_ends) {
    for (int rank = 0; rank <= AD_MAX_RANK; rank++) {
        for (int axis = -10; axis <= 10; axis++) {
            int want = axis < -rank || axis >= rank ? -1 : (axis + rank) % rank;
            cr_assert_eq(ad_axis_index(axis, rank), want, "axis %d of rank %d", axis, rank);
        }
    }
    cr_assert_eq(ad_axis_index(INT_MIN, 3), -1);
    cr_assert_eq(ad_axis_index(INT_MAX, 3), -1);
}

Test(shape, strides_are_row_major_and_ignore_empty_axes) {
    int64_t stride[AD_MAX_RANK];
    ad_shape_strides(&AD_SHAPE(2, 3, 4), stride);
    cr_assert(stride[0] == 12 && stride[1] == 4 && stride[2] == 1);
    ad_shape_strides(&AD_SHAPE(2, 0, 4), stride);
    cr_assert(stride[0] == 4 && stride[1] == 4 && stride[2] == 1);
}

/* ---- random numbers ---------------------------------------------------------------------------------------------- */

/* Philox4x32-10 as section 3.3 of Salmon et al. (2011) has it: each half is multiplied, and the halves cross over. */
static void reference_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t state[4]) {
    const uint64_t multiplier[2] = {0xD2511F53, 0xCD9E8D57};
    const uint32_t weyl[2] = {0x9E3779B9, 0xBB67AE85};
    memcpy(state, counter, 4 * sizeof *state);
    for (uint32_t round = 0; round < 10; round++) {
        uint32_t next[4];
        for (uint32_t half = 0; half < 2; half++) {
            uint64_t product = multiplier[half] * state[2 * half];
            uint32_t round_key = key[1 - half] + round * weyl[1 - half];
            next[3 - 2 * half] = (uint32_t)product;
            next[2 - 2 * half] = (uint32_t)(product >> 32) ^ state[3 - 2 * half] ^ round_key;
        }
        memcpy(state, next, sizeof next);
    }
}

/* The 64-bit draw of a seed and a counter: the low half of the block of that counter. */
static uint64_t reference_draw(uint64_t seed, uint64_t counter) {
    uint32_t block[4];
    reference_philox((uint32_t[]){(uint32_t)counter, (uint32_t)(counter >> 32), 0, 0},
                     (uint32_t[]){(uint32_t)seed, (uint32_t)(seed >> 32)}, block);
    return (uint64_t)block[1] << 32 | block[0];
}

/* The vectors that the authors publish with Random123 (kat_vectors, philox4x32 10). */
Test(rng, the_reference_gives_the_published_vectors) {
    const struct {
        uint32_t counter[4], key[2], out[4];
    } published[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (int i = 0; i < TEST_COUNT(published); i++) {
        uint32_t out[4];
        reference_philox(published[i].counter, published[i].key, out);
        cr_assert_arr_eq(out, published[i].out, sizeof out, "vector %d", i);
    }
}

Test(rng, draws_are_philox_of_seed_and_counter) {
    cr_assert_eq(ad_rng_next(&(ad_rng){0, 0}), 0xe169c58d6627e8d5, "the published vector for zeros");
    const uint64_t points[] = {0, 1, 2, 0xFFFFFFFF, 0x100000000, 0x123456789ABCDEF0, UINT64_MAX - 1, UINT64_MAX};
    for (int i = 0; i < TEST_COUNT(points); i++) {
        for (int j = 0; j < TEST_COUNT(points); j++) {
            ad_rng rng = {.seed = points[i], .counter = points[j]};
            for (uint64_t k = 0; k < 3; k++)
                cr_assert_eq(ad_rng_next(&rng), reference_draw(points[i], points[j] + k));
            cr_assert_eq(rng.counter, points[j] + 3);
            cr_assert_eq(rng.seed, points[i]);
        }
    }
}

Test(rng, every_draw_takes_one_counter) {
    ad_rng rng = {.seed = 5, .counter = 10}, replay;
    ad_rng_uniform(&rng);
    ad_rng_normal(&rng);
    cr_assert_eq(rng.counter, 12);
    replay = rng;
    double first = ad_rng_normal(&rng);
    cr_assert_eq(first, ad_rng_normal(&replay), "a copy replays");
    rng.counter = 12;
    cr_assert_eq(first, ad_rng_normal(&rng), "the counter jumps");
}

Test(rng, uniform_has_53_bits_in_0_to_1) {
    ad_rng rng = {.seed = 1};
    for (int i = 0; i < 1000; i++) {
        double want = (double)(reference_draw(1, rng.counter) >> 11) / 9007199254740992.0;
        cr_assert_eq(ad_rng_uniform(&rng), want);
        cr_assert(want >= 0 && want < 1);
    }
}

/* Largest distance between the empirical distribution of n draws and their true one; values sorted by counting. */
static double kolmogorov(const double *probability, int n) {
    enum { bins = 1024 };
    int count[bins] = {0}, below = 0;
    double most = 0;
    for (int i = 0; i < n; i++) count[(int)(probability[i] * bins)]++;
    for (int k = 0; k < bins; k++) {
        below += count[k];
        most = fmax(most, fabs((double)below / n - (k + 1.0) / bins));
    }
    return most;
}

Test(rng, uniform_and_normal_have_their_distributions) {
    enum { n = 200000 };
    static double uniform[n], normal[n];
    double sum = 0, squares = 0, cubes = 0, fourths = 0, together = 0;
    ad_rng rng = {.seed = 42};
    for (int i = 0; i < n; i++) {
        double x = ad_rng_normal(&rng), previous = i ? normal[i - 1] : 0;
        normal[i] = x;
        sum += x;
        squares += x * x;
        cubes += x * x * x;
        fourths += x * x * x * x;
        together += x * previous;
    }
    /* five standard deviations of each mean */
    const double root = sqrt(n);
    cr_assert(fabs(sum / n) < 5 / root, "mean %g", sum / n);
    cr_assert(fabs(squares / n - 1) < 5 * sqrt(2) / root, "variance %g", squares / n);
    cr_assert(fabs(cubes / n) < 5 * sqrt(15) / root, "third moment %g", cubes / n);
    cr_assert(fabs(fourths / n - 3) < 5 * sqrt(96) / root, "fourth moment %g", fourths / n);
    cr_assert(fabs(together / n) < 5 / root, "covariance of neighbours %g", together / n);
    for (int i = 0; i < n; i++) {
        normal[i] = fmin(0.5 * erfc(-normal[i] / sqrt(2)), 0x1.fffffffffffffp-1);
        uniform[i] = ad_rng_uniform(&rng);
    }
    cr_assert(kolmogorov(normal, n) < 2 / root); /* passed by chance with probability 0.9993 */
    cr_assert(kolmogorov(uniform, n) < 2 / root);
}

Test(rng, below_is_in_range_and_even) {
    ad_rng rng = {.seed = 9};
    enum { bound = 7, n = 70000 };
    int count[bound] = {0};
    for (int i = 0; i < n; i++) {
        int64_t value = ad_rng_below(&rng, bound);
        cr_assert(value >= 0 && value < bound);
        count[value]++;
    }
    double chi_squared = 0;
    for (int k = 0; k < bound; k++) chi_squared += pow(count[k] - n / bound, 2) / (n / bound);
    cr_assert(chi_squared < 22.5, "chi squared with 6 degrees of freedom: %g", chi_squared); /* p = 0.001 */
}

Test(rng, below_rejects_what_would_be_biased) {
    /* 2^64 is not a multiple of 3 2^61, so a quarter of all draws is refused... */
    const int64_t bound = 3 * (INT64_C(1) << 61);
    ad_rng rng = {.seed = 11};
    int upper = 0;
    enum { n = 20000 };
    for (int i = 0; i < n; i++) {
        int64_t value = ad_rng_below(&rng, bound);
        cr_assert(value >= 0 && value < bound);
        upper += value >= bound / 2;
    }
    cr_assert(fabs(upper - n / 2.0) < 5 * sqrt(n / 4.0), "%d of %d in the upper half", upper, n);
    double draws = (double)rng.counter / n; /* ...and a number takes 4/3 draws */
    cr_assert(fabs(draws - 4.0 / 3) < 0.02, "%g draws per number", draws);
}

Test(rng, below_at_the_ends_of_its_range) {
    ad_rng rng = {.seed = 3};
    const int64_t none[] = {0, -1, INT64_MIN};
    for (int i = 0; i < TEST_COUNT(none); i++) cr_assert_eq(ad_rng_below(&rng, none[i]), 0);
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(ad_rng_below(&rng, 1), 0);
        int64_t value = ad_rng_below(&rng, INT64_MAX);
        cr_assert(value >= 0 && value < INT64_MAX);
    }
}
