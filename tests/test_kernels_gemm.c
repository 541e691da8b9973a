/* The matrix product of every instruction set against three loops in long double. */
#include "helpers.h"
#include "ops/kernels/kernels.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- matrices in all the ways they can lie in memory ------------------------------------------------------------- */

typedef enum layout {
    ROWS,          /* rows are contiguous */
    ROWS_APART,    /* and end before the next begins */
    COLUMNS,       /* columns are contiguous */
    COLUMNS_APART, /* and end before the next begins */
    NEITHER,
    ROWS_UP,    /* the last row comes first */
    COLUMNS_UP, /* every row runs backwards */
    LAYOUTS_OF_C,
    SAME_ROWS = LAYOUTS_OF_C, /* stride 0 */
    SAME_COLUMNS,
    ONE_NUMBER,
    LAYOUTS
} layout;

typedef struct matrix {
    ad_dtype dtype;
    int64_t rows, columns, rs, cs;
    char *memory; /* of exactly the size it needs, but for one element in front */
    size_t bytes;
    void *data;
} matrix;

static double *at_f64(const matrix *x, int64_t i, int64_t j) { return (double *)x->data + i * x->rs + j * x->cs; }
static float *at_f32(const matrix *x, int64_t i, int64_t j) { return (float *)x->data + i * x->rs + j * x->cs; }

static double get(const matrix *x, int64_t i, int64_t j) {
    return x->dtype == AD_F32 ? *at_f32(x, i, j) : *at_f64(x, i, j);
}

static void set(const matrix *x, int64_t i, int64_t j, double value) {
    if (x->dtype == AD_F32) {
        *at_f32(x, i, j) = (float)value;
    } else {
        *at_f64(x, i, j) = value;
    }
}

/* Filled with normal variates; what lies between and in front holds NaN. */
static matrix new_matrix(ad_rng *rng, ad_dtype dtype, int64_t rows, int64_t columns, layout how) {
    const int64_t r = rows, c = columns;
    const int64_t strides[LAYOUTS][2] = {
        [ROWS] = {c, 1},         [ROWS_APART] = {c + 3, 1},  [COLUMNS] = {1, r},     [COLUMNS_APART] = {1, r + 5},
        [ROWS_UP] = {-c, 1},     [NEITHER] = {2 * c + 1, 2}, [COLUMNS_UP] = {c, -1}, [SAME_ROWS] = {0, 1},
        [SAME_COLUMNS] = {1, 0}, [ONE_NUMBER] = {0, 0},
    };
    matrix x = {.dtype = dtype, .rows = r, .columns = c, .rs = strides[how][0], .cs = strides[how][1]};
    int64_t size = (int64_t)ad_dtype_size(dtype), low = 1, high = 1; /* element 0 is the one in front */
    if (r > 0 && c > 0) {
        int64_t down = (r - 1) * x.rs, across = (c - 1) * x.cs;
        low += (down < 0 ? -down : 0) + (across < 0 ? -across : 0);
        high = low + (down > 0 ? down : 0) + (across > 0 ? across : 0) + 1;
    }
    x.bytes = (size_t)(high * size);
    x.memory = malloc(x.bytes);
    memset(x.memory, 0xFF, x.bytes);
    x.data = x.memory + low * size;
    for (int64_t i = 0; i < r; i++)
        for (int64_t j = 0; j < c; j++) set(&x, i, j, ad_rng_normal(rng));
    return x;
}

static void fill(const matrix *x, double value) {
    for (int64_t i = 0; i < x->rows; i++)
        for (int64_t j = 0; j < x->columns; j++) set(x, i, j, value);
}

/* C (+)= A B (+ bias) */
typedef struct product {
    matrix a, b, c, bias;
} product;

/* What is added to a product. */
typedef enum start { NOTHING, OLD_C, BIAS, STARTS } start;

static layout any(ad_rng *rng, int below) { return (layout)ad_rng_below(rng, below); }

static product new_product(ad_rng *rng, ad_dtype dtype, const int64_t size[3], const layout layouts[3]) {
    return (product){new_matrix(rng, dtype, size[0], size[2], layouts[0]),
                     new_matrix(rng, dtype, size[2], size[1], layouts[1]),
                     new_matrix(rng, dtype, size[0], size[1], layouts[2]),
                     new_matrix(rng, dtype, size[0], size[1], any(rng, LAYOUTS))};
}

static void free_product(product *p) {
    free(p->a.memory);
    free(p->b.memory);
    free(p->c.memory);
    free(p->bias.memory);
}

/* As in "7x9x11, strides 11,1 9,1 9,1 0,1": those of A, B, C and the bias. */
static const char *describe(const product *p, char text[200]) {
    const long long numbers[] = {p->c.rows, p->c.columns, p->a.columns, p->a.rs,    p->a.cs,   p->b.rs,
                                 p->b.cs,   p->c.rs,      p->c.cs,      p->bias.rs, p->bias.cs};
    snprintf(text, 200, "%lldx%lldx%lld, strides %lld,%lld %lld,%lld %lld,%lld %lld,%lld", numbers[0], numbers[1],
             numbers[2], numbers[3], numbers[4], numbers[5], numbers[6], numbers[7], numbers[8], numbers[9],
             numbers[10]);
    return text;
}

/* ---- running and checking a product ------------------------------------------------------------------------------ */

static ad_gemm problem_of(const product *p, start begin) {
    const matrix *a = &p->a, *b = &p->b, *c = &p->c;
    return (ad_gemm){.dtype = c->dtype,
                     .m = c->rows,
                     .n = c->columns,
                     .k = a->columns,
                     .a = a->data,
                     .rsa = a->rs,
                     .csa = a->cs,
                     .b = b->data,
                     .rsb = b->rs,
                     .csb = b->cs,
                     .c = c->data,
                     .rsc = c->rs,
                     .csc = c->cs,
                     .add = begin == OLD_C,
                     .bias = begin == BIAS ? p->bias.data : NULL,
                     .rs_bias = p->bias.rs,
                     .cs_bias = p->bias.cs};
}

/* Scratch memory of the size asked for, full of `garbage`. */
static void *new_scratch(const ad_kernels *k, const ad_gemm *problem, int garbage) {
    size_t bytes = k->gemm_scratch(problem);
    void *scratch = bytes ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL;
    if (bytes) memset(scratch, garbage, bytes);
    return scratch;
}

static void run(const ad_kernels *k, const ad_gemm *problem, int garbage) {
    void *scratch = new_scratch(k, problem, garbage);
    k->gemm(problem, scratch);
    free(scratch);
}

static void run_part(const ad_kernels *k, const ad_gemm *problem, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
    void *scratch = new_scratch(k, problem, 0);
    k->gemm_part(problem, i0, i1, j0, j1, scratch);
    free(scratch);
}

typedef struct expected {
    long double *value, *room; /* room: how far off rounding may be */
} expected;

static expected expect(const product *p, start begin) {
    const int64_t m = p->c.rows, n = p->c.columns, depth = p->a.columns;
    const size_t bytes = (size_t)(m * n + 1) * sizeof(long double);
    expected want = {malloc(bytes), malloc(bytes)};
    const long double half_ulp = p->c.dtype == AD_F32 ? 0x1p-24L : 0x1p-53L;
    for (int64_t i = 0; i < m * n; i++) {
        long double sum = begin == NOTHING ? 0 : get(begin == BIAS ? &p->bias : &p->c, i / n, i % n);
        long double size = fabsl(sum);
        for (int64_t l = 0; l < depth; l++) {
            long double term = (long double)get(&p->a, i / n, l) * get(&p->b, l, i % n);
            sum += term;
            size += fabsl(term);
        }
        want.value[i] = sum;
        want.room[i] = half_ulp * size * (long double)(depth + 2);
    }
    return want;
}

static void free_expected(expected *want) {
    free(want->value);
    free(want->room);
}

static void compare(const product *p, const expected *want, const ad_kernels *k) {
    char text[200];
    for (int64_t i = 0, n = p->c.columns; i < p->c.rows * n; i++)
        cr_assert(fabsl(get(&p->c, i / n, i % n) - want->value[i]) <= want->room[i],
                  "%s %s, %s: C[%lld,%lld] is %g, not %Lg", k->isa, ad_dtype_name(p->c.dtype), describe(p, text),
                  (long long)(i / n), (long long)(i % n), get(&p->c, i / n, i % n), want->value[i]);
}

/* Computes C in every table, twice, and looks at what lies around it. */
static void check(product *p, start begin) {
    expected want = expect(p, begin);
    char *before = malloc(p->c.bytes), *after = malloc(p->c.bytes), text[200];
    if (begin != OLD_C) fill(&p->c, NAN); /* must not be read */
    memcpy(before, p->c.memory, p->c.bytes);
    for (int t = 0; ad_kernels_table(t); t++) {
        const ad_kernels *k = ad_kernels_table(t);
        ad_gemm problem = problem_of(p, begin);
        run(k, &problem, 0xFF);
        compare(p, &want, k);
        memcpy(after, p->c.memory, p->c.bytes);
        memcpy(p->c.memory, before, p->c.bytes);
        run(k, &problem, 0x00);
        cr_assert_arr_eq(p->c.memory, after, p->c.bytes, "%s, %s: another run gives other bits", k->isa,
                         describe(p, text));

        fill(&p->c, 0);
        memcpy(after, p->c.memory, p->c.bytes);
        memcpy(p->c.memory, before, p->c.bytes);
        fill(&p->c, 0);
        cr_assert_arr_eq(p->c.memory, after, p->c.bytes, "%s, %s: wrote outside of C", k->isa, describe(p, text));
        memcpy(p->c.memory, before, p->c.bytes);
    }
    free_expected(&want);
    free(before);
    free(after);
}

static void check_layouts(ad_rng *rng, ad_dtype dtype, const int64_t size[3], const layout layouts[3], start begin) {
    product p = new_product(rng, dtype, size, layouts);
    check(&p, begin);
    free_product(&p);
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

Test(gemm, every_layout_of_every_operand) {
    const int64_t sizes[][3] = {{7, 9, 11}, {33, 18, 20}, {1, 40, 17}, {40, 1, 17}, {16, 16, 1}};
    ad_rng rng = {.seed = 1};
    for (int s = 0; s < TEST_COUNT(sizes); s++) {
        for (int i = 0; i < LAYOUTS * LAYOUTS * LAYOUTS_OF_C; i++) {
            int a = i % LAYOUTS, b = i / LAYOUTS % LAYOUTS, c = i / LAYOUTS / LAYOUTS;
            layout layouts[] = {(layout)a, (layout)b, (layout)c};
            check_layouts(&rng, i % 2 ? AD_F64 : AD_F32, sizes[s], layouts, (start)(i % STARTS));
        }
    }
}

/* Sizes around the multiples of vectors and register tiles. */
Test(gemm, every_edge) {
    const int64_t edges[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  12, 13, 14,
                             15, 16, 17, 24, 28, 29, 31, 32, 33, 47, 48, 64, 65};
    ad_rng rng = {.seed = 2};
    for (int round = 0; round < 6000; round++) {
        layout layouts[] = {any(&rng, LAYOUTS), any(&rng, LAYOUTS), any(&rng, LAYOUTS_OF_C)};
        int64_t size[3];
        for (int i = 0; i < 3; i++) size[i] = edges[ad_rng_below(&rng, TEST_COUNT(edges))];
        check_layouts(&rng, round % 2 ? AD_F64 : AD_F32, size, layouts, (start)ad_rng_below(&rng, STARTS));
    }
}

/* Sizes beyond one cache block, in each direction. */
Test(gemm, every_block) {
    const int64_t sizes[][3] = {{345, 70, 30}, {40, 45, 1100}, {20, 2100, 25}, {260, 260, 40}, {350, 40, 520},
                                {1, 300, 700}, {300, 1, 700},  {2, 2, 5000},   {30, 260, 512}};
    ad_rng rng = {.seed = 3};
    for (int s = 0; s < TEST_COUNT(sizes); s++) {
        for (int round = 0; round < 4; round++) {
            layout layouts[] = {round & 1 ? COLUMNS : ROWS, round & 2 ? COLUMNS : ROWS, any(&rng, LAYOUTS_OF_C)};
            check_layouts(&rng, (s + round) % 2 ? AD_F64 : AD_F32, sizes[s], layouts, (start)((s + round) % STARTS));
        }
    }
}

Test(gemm, a_sum_over_nothing_adds_nothing) {
    ad_rng rng = {.seed = 4};
    for (int i = 0; i < LAYOUTS_OF_C * 4; i++) {
        layout layouts[] = {ROWS, COLUMNS, (layout)(i / 4)};
        check_layouts(&rng, i % 2 ? AD_F64 : AD_F32, (int64_t[]){5, 20, 0}, layouts, (start)(i % STARTS));
    }
}

/* A row of A holds a NaN and a column of B infinities, against zeros in A, which must not be skipped: that row and that
 * column of C become NaN, and nothing else. */
Test(gemm, nan_stays_in_its_row_and_column) {
    ad_rng rng = {.seed = 5};
    for (int round = 0; round < 400; round++) {
        const int64_t size[] = {1 + ad_rng_below(&rng, 40), 1 + ad_rng_below(&rng, 70), 1 + ad_rng_below(&rng, 20)};
        layout layouts[] = {any(&rng, SAME_ROWS), any(&rng, SAME_ROWS), any(&rng, LAYOUTS_OF_C)};
        product p = new_product(&rng, round % 2 ? AD_F64 : AD_F32, size, layouts);
        int64_t row = ad_rng_below(&rng, size[0]), column = ad_rng_below(&rng, size[1]);
        for (int64_t i = 0; i < size[0]; i++) set(&p.a, i, 0, 0);
        for (int64_t l = 0; l < size[2]; l++) set(&p.b, l, column, INFINITY);
        set(&p.a, row, ad_rng_below(&rng, size[2]), NAN);
        for (int t = 0; ad_kernels_table(t); t++) {
            ad_gemm problem = problem_of(&p, NOTHING);
            run(ad_kernels_table(t), &problem, 0xFF);
            for (int64_t i = 0; i < size[0]; i++)
                for (int64_t j = 0; j < size[1]; j++)
                    cr_assert_eq(isnan(get(&p.c, i, j)) != 0, i == row || j == column, "%s: C[%lld,%lld] is %g",
                                 ad_kernels_table(t)->isa, (long long)i, (long long)j, get(&p.c, i, j));
        }
        free_product(&p);
    }
}

/* Any rectangle of C computed by itself has the bits of the whole, and nothing else is written: what threads rely on.
 * (A CBLAS library, where the build has one, computes the whole its own way.) */
Test(gemm, rectangles_have_the_bits_of_the_whole) {
    ad_rng rng = {.seed = 6};
    for (int round = 0; round < 800; round++) {
        const int64_t depth = ad_rng_below(&rng, round % 8 ? 40 : 700);
        const int64_t m = 1 + ad_rng_below(&rng, 60), n = round % 5 ? 1 + ad_rng_below(&rng, 90) : 1;
        layout layouts[] = {any(&rng, LAYOUTS), any(&rng, LAYOUTS), any(&rng, LAYOUTS_OF_C)};
        product p = new_product(&rng, round % 2 ? AD_F64 : AD_F32, (int64_t[]){m, n, depth}, layouts);
        matrix part = new_matrix(&rng, p.c.dtype, m, n, layouts[2]);
        const int64_t i0 = ad_rng_below(&rng, m), i1 = i0 + 1 + ad_rng_below(&rng, m - i0);
        const int64_t j0 = ad_rng_below(&rng, n), j1 = j0 + 1 + ad_rng_below(&rng, n - j0);
        for (int t = 0; ad_kernels_table(t); t++) {
            ad_gemm whole = problem_of(&p, round % 3 ? NOTHING : BIAS), piece = whole;
            piece.c = part.data;
            fill(&part, -1);
            run_part(ad_kernels_table(t), &whole, 0, m, 0, n);
            run_part(ad_kernels_table(t), &piece, i0, i1, j0, j1);
            char text[200];
            for (int64_t i = 0; i < m; i++)
                for (int64_t j = 0; j < n; j++)
                    cr_assert_eq(get(&part, i, j), i >= i0 && i < i1 && j >= j0 && j < j1 ? get(&p.c, i, j) : -1,
                                 "%s, %s: C[%lld,%lld] differs in [%lld:%lld,%lld:%lld]", ad_kernels_table(t)->isa,
                                 describe(&p, text), (long long)i, (long long)j, (long long)i0, (long long)i1,
                                 (long long)j0, (long long)j1);
        }
        free_product(&p);
        free(part.memory);
    }
}

/* Where every product and sum is exact, so must the result be, in any order. */
Test(gemm, integers_are_exact) {
    ad_rng rng = {.seed = 7};
    for (int round = 0; round < 200; round++) {
        const int64_t size[] = {1 + ad_rng_below(&rng, 50), 1 + ad_rng_below(&rng, 50), 1 + ad_rng_below(&rng, 600)};
        layout layouts[] = {(layout)(round % 4), ROWS, ROWS};
        product p = new_product(&rng, round % 2 ? AD_F64 : AD_F32, size, layouts);
        for (int64_t l = 0; l < size[2]; l++) {
            for (int64_t i = 0; i < size[0]; i++) set(&p.a, i, l, (double)ad_rng_below(&rng, 21) - 10);
            for (int64_t j = 0; j < size[1]; j++) set(&p.b, l, j, (double)ad_rng_below(&rng, 21) - 10);
        }
        expected want = expect(&p, NOTHING);
        memset(want.room, 0, (size_t)(size[0] * size[1]) * sizeof *want.room);
        for (int t = 0; ad_kernels_table(t); t++) {
            ad_gemm problem = problem_of(&p, NOTHING);
            run(ad_kernels_table(t), &problem, 0);
            compare(&p, &want, ad_kernels_table(t));
        }
        free_expected(&want);
        free_product(&p);
    }
}
