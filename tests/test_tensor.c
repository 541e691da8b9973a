/* Tensors and where their memory comes from: reference counts, wrapped memory, aliases, the pool, the arena, the list. */
#include "helpers.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>

TestSuite(tensor, .fini = test_arrays_free);

static ad_tensor *new_tensor(const ad_allocator *allocator, ad_dtype dtype, ad_shape shape, const void *data) {
    ad_tensor *tensor = NULL;
    ad_error error = {.message = ""};
    cr_assert_eq(ad_tensor_new(&tensor, allocator, dtype, shape, data, &error), AD_OK, "%s", error.message);
    cr_assert_not_null(tensor);
    return tensor;
}

/* ---- making tensors ---------------------------------------------------------------------------------------------- */

Test(tensor, new_copies_its_data) {
    test_memory memory;
    test_memory_open(&memory);
    float data[] = {1, 2, 3, 4, 5, 6};
    ad_tensor *tensor = new_tensor(&memory.allocator, AD_F32, AD_SHAPE(2, 3), data);
    data[0] = 7;
    const ad_view *view = ad_tensor_view(tensor);
    cr_assert(view->dtype == AD_F32 && ad_shape_equal(&view->shape, &AD_SHAPE(2, 3)) && ad_view_is_contiguous(view));
    for (int64_t i = 0; i < 6; i++) cr_assert_eq(ad_view_get(view, i), (double)(i + 1));
    cr_assert_eq((uintptr_t)view->data % 64, 0, "aligned for vectors");
    cr_assert_eq(memory.calls, 1, "header and data are one block");
    ad_tensor_unref(tensor);
    test_memory_close(&memory);
}

Test(tensor, new_without_data_is_zero) {
    for (int dtype = 0; dtype < AD_DTYPE_COUNT; dtype++) {
        ad_tensor *tensor = new_tensor(NULL, (ad_dtype)dtype, AD_SHAPE(5, 7), NULL);
        for (int64_t i = 0; i < 35; i++) cr_assert_eq(ad_view_get(ad_tensor_view(tensor), i), 0);
        ad_tensor_unref(tensor);
    }
}

Test(tensor, numbers_and_empty_tensors_exist) {
    double number = 2.5;
    ad_tensor *tensor = new_tensor(NULL, AD_F64, AD_SCALAR, &number);
    cr_assert_eq(ad_view_get(ad_tensor_view(tensor), 0), 2.5);
    ad_tensor_unref(tensor);
    tensor = new_tensor(NULL, AD_F64, AD_SHAPE(3, 0, 2), NULL);
    cr_assert_eq(ad_view_count(ad_tensor_view(tensor)), 0);
    ad_tensor_unref(tensor);
}

Test(tensor, null_is_allowed_where_nothing_is_to_be_done) {
    cr_assert_null(ad_tensor_ref(NULL));
    cr_assert_null(ad_tensor_view(NULL));
    ad_tensor_unref(NULL);
}

/* ---- errors ------------------------------------------------------------------------------------------------------ */

Test(tensor, new_says_what_is_wrong) {
    const struct {
        ad_dtype dtype;
        ad_shape shape;
        ad_status status;
        const char *message;
    } wrong[] = {
        {AD_DTYPE_COUNT, AD_SHAPE(2), AD_ERR_DTYPE, "unknown dtype 4: use AD_F32, AD_F64, AD_I32 or AD_I64"},
        {AD_F32, {.rank = 9, .dim = {0}}, AD_ERR_LIMIT, "rank 9 is outside 0..8"},
        {AD_F32, {.rank = -1, .dim = {0}}, AD_ERR_LIMIT, "rank -1 is outside 0..8"},
        {AD_F32, AD_SHAPE(2, -3), AD_ERR_SHAPE, "dimension 1 of f32[2,-3] is negative"},
        {AD_F32, AD_SHAPE(4294967296, 4294967296), AD_ERR_LIMIT,
         "f32[4294967296,4294967296] has more elements than the address space can hold"},
    };
    for (int i = 0; i < TEST_COUNT(wrong); i++) {
        ad_tensor *tensor = (ad_tensor *)&tensor;
        ad_error error = {.status = AD_OK};
        cr_assert_eq(ad_tensor_new(&tensor, NULL, wrong[i].dtype, wrong[i].shape, NULL, &error), wrong[i].status);
        cr_assert_eq(error.status, wrong[i].status);
        cr_assert_str_eq(error.message, wrong[i].message);
        cr_assert_null(tensor);
        cr_assert_eq(ad_tensor_new(&tensor, NULL, wrong[i].dtype, wrong[i].shape, NULL, NULL), wrong[i].status);
    }
    ad_error error;
    cr_assert_eq(ad_tensor_new(NULL, NULL, AD_F32, AD_SCALAR, NULL, &error), AD_ERR_NULL);
    cr_assert_str_eq(error.message, "ad_tensor_new: out is NULL");
}

Test(tensor, without_memory_there_is_an_error_and_no_tensor) {
    test_memory memory;
    test_memory_open(&memory);
    ad_tensor *base = new_tensor(&memory.allocator, AD_F64, AD_SHAPE(4), NULL), *tensor = base;
    ad_view view = *ad_tensor_view(base);
    ad_error error;
    memory.fail_at = memory.calls + 1;
    memory.fail_on = true;
    cr_assert_eq(ad_tensor_new(&tensor, &memory.allocator, AD_F64, AD_SHAPE(4, 3), NULL, &error), AD_ERR_OOM);
    cr_assert_str_eq(error.message, "out of memory for a tensor f64[4,3]");
    cr_assert_null(tensor);
    tensor = base;
    cr_assert_eq(ad_tensor_wrap(&tensor, &memory.allocator, &view, NULL, NULL, &error), AD_ERR_OOM);
    cr_assert_null(tensor);
    tensor = base;
    cr_assert_eq(ad_tensor_alias(&tensor, base, &view, &error), AD_ERR_OOM);
    cr_assert_null(tensor);
    ad_tensor_unref(base);
    test_memory_close(&memory);
}

/* ---- wrapped memory ---------------------------------------------------------------------------------------------- */

static void count_release(void *user) { ++*(int *)user; }

Test(tensor, wrap_shares_memory_and_releases_it_once) {
    test_memory memory;
    test_memory_open(&memory);
    int released = 0;
    ad_view view = test_random(AD_F64, AD_SHAPE(2, 3), TEST_REVERSED, 1);
    ad_tensor *tensor, *alias;
    cr_assert_eq(ad_tensor_wrap(&tensor, &memory.allocator, &view, count_release, &released, NULL), AD_OK);
    cr_assert(test_same_bits(ad_tensor_view(tensor), &view));
    test_set(&view, 2, 42);
    cr_assert_eq(ad_view_get(ad_tensor_view(tensor), 2), 42);
    cr_assert_not(ad_tensor_is_unique(tensor), "the caller sees it too");
    cr_assert_eq(ad_tensor_alias(&alias, tensor, &view, NULL), AD_OK);
    ad_tensor_unref(tensor);
    cr_assert_eq(released, 0, "the alias still uses it");
    ad_tensor_unref(alias);
    cr_assert_eq(released, 1);
    test_memory_close(&memory);
}

Test(tensor, wrap_says_what_is_wrong) {
    int released = 0;
    ad_tensor *tensor;
    ad_error error;
    ad_view missing = {.data = NULL, .dtype = AD_F64, .shape = AD_SHAPE(2), .stride = {1}}, odd = missing;
    odd.data = (char *)&error + 1;
    cr_assert_eq(ad_tensor_wrap(&tensor, NULL, &missing, count_release, &released, &error), AD_ERR_NULL);
    cr_assert_str_eq(error.message, "ad_tensor_wrap: the view has elements but its data is NULL");
    cr_assert_eq(ad_tensor_wrap(&tensor, NULL, &odd, count_release, &released, &error), AD_ERR_VALUE);
    cr_assert_str_eq(error.message, "ad_tensor_wrap: the data is not aligned for f64");
    cr_assert_null(tensor);
    cr_assert_eq(ad_tensor_wrap(&tensor, NULL, NULL, NULL, NULL, &error), AD_ERR_NULL);
    cr_assert_str_eq(error.message, "ad_tensor_wrap: view is NULL");
    cr_assert_eq(ad_tensor_wrap(NULL, NULL, &odd, NULL, NULL, &error), AD_ERR_NULL);
    cr_assert_str_eq(error.message, "ad_tensor_wrap: out is NULL");
    odd.shape.rank = 9;
    cr_assert_eq(ad_tensor_wrap(&tensor, NULL, &odd, NULL, NULL, &error), AD_ERR_LIMIT);
    cr_assert_eq(released, 0, "what was not taken is not released");
}

Test(tensor, wrap_needs_no_memory_where_there_are_no_elements) {
    ad_view empty = {.data = NULL, .dtype = AD_I32, .shape = AD_SHAPE(0, 4), .stride = {4, 1}};
    ad_tensor *tensor;
    cr_assert_eq(ad_tensor_wrap(&tensor, NULL, &empty, NULL, NULL, NULL), AD_OK);
    cr_assert_eq(ad_view_count(ad_tensor_view(tensor)), 0);
    ad_tensor_unref(tensor);
}

/* ---- aliases ----------------------------------------------------------------------------------------------------- */

Test(tensor, aliases_keep_the_memory_alive) {
    test_memory memory;
    test_memory_open(&memory);
    int32_t data[] = {0, 1, 2, 3, 4, 5};
    ad_tensor *base = new_tensor(&memory.allocator, AD_I32, AD_SHAPE(2, 3), data), *columns, *column;
    ad_view view;
    cr_assert_eq(ad_view_permute(ad_tensor_view(base), &AD_ALL_AXES, &view), AD_OK);
    cr_assert_eq(ad_tensor_alias(&columns, base, &view, NULL), AD_OK);
    cr_assert_eq(ad_view_slice(&view, 0, -1, -2, -1, &view), AD_OK);
    cr_assert_eq(ad_tensor_alias(&column, columns, &view, NULL), AD_OK);
    cr_assert_not(ad_tensor_is_unique(base), "the aliases see it too");
    ad_tensor_unref(base);
    ad_tensor_unref(columns);
    cr_assert_eq(ad_view_get(ad_tensor_view(column), 0), 2);
    cr_assert_eq(ad_view_get(ad_tensor_view(column), 1), 5);
    ad_tensor_unref(column);
    test_memory_close(&memory);
}

Test(tensor, an_alias_must_lie_inside) {
    double data[12] = {0}, elsewhere = 0;
    ad_view outer = {.data = data + 6, .dtype = AD_F64, .shape = AD_SHAPE(2, 3), .stride = {-3, 1}}; /* data[3..8] */
    ad_tensor *base, *alias;
    ad_error error;
    cr_assert_eq(ad_tensor_wrap(&base, NULL, &outer, NULL, NULL, NULL), AD_OK);
    const struct {
        double *data;
        int64_t n, stride;
        bool inside;
    } cases[] = {
        {data + 3, 6, 1, true},
        {data + 8, 6, -1, true},
        {data + 5, 100, 0, true},
        {data + 4, 3, 2, true},
        {data + 3, 7, 1, false},
        {data + 2, 6, 1, false},
        {data + 8, 7, -1, false},
        {data + 9, 1, 1, false},
        {data + 2, 1, 0, false},
        {data + 5, 2, INT64_MAX, false},
        {data + 5, 2, INT64_MIN, false},
        {data + 5, 3, INT64_MAX / 2, false},
        {data + 5, 2, INT64_C(1) << 61, false},
        {&elsewhere, 0, 1, true},
        {&elsewhere, 1, 1, false},
    };
    for (int i = 0; i < TEST_COUNT(cases); i++) {
        ad_view view = {.data = cases[i].data, .dtype = AD_F64, .shape = AD_SHAPE(cases[i].n)};
        view.stride[0] = cases[i].stride;
        ad_status want = cases[i].inside ? AD_OK : AD_ERR_INDEX;
        cr_assert_eq(ad_tensor_alias(&alias, base, &view, &error), want, "case %d", i);
        if (!cases[i].inside)
            cr_assert_str_eq(error.message, "ad_tensor_alias: the view reaches outside the tensor's memory");
        ad_tensor_unref(alias);
    }
    ad_tensor_unref(base);
}

Test(tensor, alias_says_what_is_wrong) {
    ad_tensor *base = new_tensor(NULL, AD_F64, AD_SHAPE(3), NULL), *alias;
    ad_view view = *ad_tensor_view(base);
    ad_error error;
    view.dtype = AD_I64;
    cr_assert_eq(ad_tensor_alias(&alias, base, &view, &error), AD_ERR_DTYPE);
    cr_assert_str_eq(error.message, "ad_tensor_alias: a view as i64 of a tensor of f64");
    view.dtype = AD_F64;
    view.shape = AD_SHAPE(1);
    view.data = (char *)view.data + 4;
    cr_assert_eq(ad_tensor_alias(&alias, base, &view, &error), AD_ERR_VALUE);
    cr_assert_str_eq(error.message, "ad_tensor_alias: the data is not aligned for f64");
    cr_assert_eq(ad_tensor_alias(&alias, NULL, &view, &error), AD_ERR_NULL);
    cr_assert_str_eq(error.message, "ad_tensor_alias: base is NULL");
    cr_assert_eq(ad_tensor_alias(&alias, base, NULL, &error), AD_ERR_NULL);
    cr_assert_str_eq(error.message, "ad_tensor_alias: view is NULL");
    cr_assert_eq(ad_tensor_alias(NULL, base, &view, &error), AD_ERR_NULL);
    cr_assert_str_eq(error.message, "ad_tensor_alias: out is NULL");
    cr_assert_null(alias);
    ad_tensor_unref(base);
}

/* ---- reference counts -------------------------------------------------------------------------------------------- */

Test(tensor, the_last_reference_frees) {
    test_memory memory;
    test_memory_open(&memory);
    ad_tensor *tensor = new_tensor(&memory.allocator, AD_F32, AD_SHAPE(100), NULL);
    cr_assert(ad_tensor_is_unique(tensor));
    cr_assert_eq(ad_tensor_ref(tensor), tensor);
    cr_assert_not(ad_tensor_is_unique(tensor));
    ad_tensor_unref(tensor);
    cr_assert(ad_tensor_is_unique(tensor));
    cr_assert_eq(memory.blocks, 1);
    ad_tensor_unref(tensor);
    test_memory_close(&memory);
}

static void *ref_and_unref(void *tensor) {
    for (int i = 0; i < 200000; i++) {
        ad_tensor_ref(tensor);
        ad_tensor_unref(tensor);
    }
    ad_tensor_unref(tensor);
    return NULL;
}

Test(tensor, reference_counts_are_atomic) {
    enum { threads = 4 };
    pthread_t thread[threads];
    int released = 0;
    double number = 1;
    ad_view view = ad_view_of(&number, AD_F64, AD_SCALAR);
    ad_tensor *tensor;
    cr_assert_eq(ad_tensor_wrap(&tensor, NULL, &view, count_release, &released, NULL), AD_OK);
    for (int i = 0; i < threads; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, ref_and_unref, ad_tensor_ref(tensor)), 0);
    for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
    cr_assert_eq(released, 0);
    ad_tensor_unref(tensor);
    cr_assert_eq(released, 1);
}

/* ---- the pool ---------------------------------------------------------------------------------------------------- */

Test(pool, gives_out_what_was_given_back) {
    test_memory memory;
    test_memory_open(&memory);
    ad_pool *pool = ad_pool_new(&memory.allocator);
    const ad_shape shapes[] = {AD_SHAPE(3), AD_SHAPE(100, 7), AD_SHAPE(0), AD_SHAPE(5000), AD_SHAPE(64, 64)};
    int64_t calls = 0;
    for (int round = 0; round < 50; round++) {
        ad_tensor *tensor[TEST_COUNT(shapes)], *alias[TEST_COUNT(shapes)];
        for (int i = 0; i < TEST_COUNT(shapes); i++) {
            tensor[i] = ad_pool_tensor(pool, i % 2 ? AD_F32 : AD_F64, &shapes[i]);
            cr_assert(ad_tensor_is_unique(tensor[i]));
            cr_assert(ad_shape_equal(&tensor[i]->view.shape, &shapes[i]) && ad_view_is_contiguous(&tensor[i]->view));
            cr_assert_eq((uintptr_t)tensor[i]->view.data % 64, 0);
            alias[i] = ad_pool_alias(pool, tensor[i], ad_tensor_view(tensor[i]));
            cr_assert_not(ad_tensor_is_unique(alias[i]));
        }
        cr_assert_eq((int64_t)ad_pool_bytes(pool), memory.bytes);
        for (int i = 0; i < TEST_COUNT(shapes); i++) {
            ad_tensor_unref(round % 2 ? tensor[i] : alias[i]);
            ad_tensor_unref(round % 2 ? alias[i] : tensor[i]);
        }
        if (round == 0) calls = memory.calls;
        cr_assert_eq(memory.calls, calls, "round %d asked for memory", round);
    }
    ad_pool_close(pool);
    test_memory_close(&memory);
}

Test(pool, a_block_fits_its_tensor_and_wastes_little) {
    test_memory memory;
    test_memory_open(&memory);
    ad_pool *pool = ad_pool_new(&memory.allocator);
    ad_rng rng = {.seed = 1};
    for (int k = 0; k < 3000; k++) {
        int64_t n = k < 1000 ? k : ad_rng_below(&rng, INT64_C(1) << (3 + k % 18));
        ad_tensor *tensor = ad_pool_tensor(pool, AD_F64, &AD_SHAPE(n));
        size_t wanted = (size_t)((char *)tensor->view.data - (char *)tensor) + 8 * (size_t)n;
        cr_assert_geq(tensor->block, wanted, "%lld elements", (long long)n);
        cr_assert_leq(tensor->block, wanted + wanted / 4 + 256, "%lld elements", (long long)n);
        memset(tensor->view.data, 0xFF, 8 * (size_t)n); /* the allocator looks at the fences */
        ad_tensor_unref(tensor);
    }
    ad_pool_close(pool);
    test_memory_close(&memory);
}

Test(pool, sizes_up_to_the_largest_shape_end_in_null_not_in_a_crash) {
    test_memory memory;
    test_memory_open(&memory);
    memory.most = 1 << 20;
    ad_pool *pool = ad_pool_new(&memory.allocator);
    for (int64_t n = PTRDIFF_MAX / 2 / 8; n > 1 << 20; n -= n / 50 + 1)
        for (int dtype = 0; dtype < AD_DTYPE_COUNT; dtype++)
            cr_assert_null(ad_pool_tensor(pool, (ad_dtype)dtype, &AD_SHAPE(n)));
    ad_pool_close(pool);
    test_memory_close(&memory);
}

Test(pool, without_memory_gives_back_what_it_keeps_and_asks_again) {
    test_memory memory;
    test_memory_open(&memory);
    ad_pool *pool = ad_pool_new(&memory.allocator);
    ad_tensor *kept = ad_pool_tensor(pool, AD_F64, &AD_SHAPE(1000)), *tensor;
    ad_tensor_unref(kept);
    memory.fail_at = memory.calls + 1;
    tensor = ad_pool_tensor(pool, AD_F64, &AD_SHAPE(9));
    cr_assert_not_null(tensor);
    cr_assert_eq(ad_pool_bytes(pool), (uint64_t)memory.bytes);
    memory.fail_at = memory.calls + 1;
    memory.fail_on = true;
    cr_assert_null(ad_pool_tensor(pool, AD_F64, &AD_SHAPE(1000)));
    cr_assert_null(ad_pool_alias(pool, tensor, ad_tensor_view(tensor)));
    cr_assert(ad_tensor_is_unique(tensor), "the failed alias holds no reference");
    ad_tensor_unref(tensor);
    ad_pool_close(pool);
    test_memory_close(&memory);
    memory.fail_at = memory.calls + 1;
    cr_assert_null(ad_pool_new(&memory.allocator));
    ad_pool_close(NULL);
}

Test(pool, its_tensors_outlive_it) {
    test_memory memory;
    test_memory_open(&memory);
    ad_pool *pool = ad_pool_new(&memory.allocator);
    ad_tensor *tensor = ad_pool_tensor(pool, AD_F32, &AD_SHAPE(10));
    ad_tensor *alias = ad_pool_alias(pool, tensor, ad_tensor_view(tensor));
    ad_tensor *again = ad_pool_alias(pool, alias, ad_tensor_view(alias));
    ((float *)tensor->view.data)[9] = 3;
    ad_tensor_unref(alias);
    ad_tensor_unref(tensor);
    ad_pool_close(pool);
    cr_assert_eq(ad_view_get(ad_tensor_view(again), 9), 3);
    ad_tensor_unref(again);
    test_memory_close(&memory);
}

/* ---- the arena --------------------------------------------------------------------------------------------------- */

Test(arena, blocks_are_aligned_and_apart_and_rewinding_frees_them) {
    enum { most = 400 };
    struct {
        unsigned char *at;
        size_t size;
        uint64_t before;
    } block[most];
    test_memory memory;
    test_memory_open(&memory);
    ad_arena arena;
    ad_arena_open(&arena, &memory.allocator);
    ad_rng rng = {.seed = 1};
    int count = 0;
    for (int k = 0; k < 20000; k++) {
        if (count == most || ad_rng_below(&rng, 200) == 0) {
            int keep = (int)ad_rng_below(&rng, count + 1);
            if (keep < count) ad_arena_rewind(&arena, block[keep].before);
            count = keep;
            continue;
        }
        size_t size = (size_t)ad_rng_below(&rng, ad_rng_below(&rng, 20) ? 300 : 100000);
        block[count].before = ad_arena_position(&arena);
        block[count].size = size;
        block[count].at = ad_arena_take(&arena, size);
        cr_assert_eq((uintptr_t)block[count].at % 16, 0);
        memset(block[count].at, count & 0xFF, size);
        count++;
        for (int i = count > 3 ? count - 3 : 0; i < count; i++)
            for (size_t j = 0; j < block[i].size; j += block[i].size / 4 + 1) cr_assert_eq(block[i].at[j], i & 0xFF);
    }
    for (int i = 0; i < count; i++)
        for (size_t j = 0; j < block[i].size; j++)
            cr_assert_eq(block[i].at[j], i & 0xFF, "block %d was overwritten", i);
    ad_arena_close(&arena);
    test_memory_close(&memory);
}

/* Positions at the very end and start of a chunk included. */
Test(arena, rewound_to_any_position_gives_the_same_memory_again) {
    enum { most = 6000 };
    static void *at[most];
    static uint64_t before[most];
    ad_arena arena;
    ad_arena_open(&arena, ad_allocator_default());
    for (int i = 0; i < most; i++) {
        before[i] = ad_arena_position(&arena);
        at[i] = ad_arena_take(&arena, 16);
    }
    cr_assert_gt(arena.bytes, 16 * most / 2, "more than one chunk");
    for (int i = most - 1; i >= 0; i--) {
        ad_arena_rewind(&arena, before[i]);
        cr_assert_eq(ad_arena_take(&arena, 16), at[i], "block %d", i);
    }
    ad_arena_close(&arena);
}

Test(arena, keeps_its_memory_for_the_next_use) {
    test_memory memory;
    test_memory_open(&memory);
    ad_arena arena;
    ad_arena_open(&arena, &memory.allocator);
    int64_t calls = 0;
    for (int round = 0; round < 20; round++) {
        for (int k = 0; k < 500; k++) cr_assert_not_null(ad_arena_take(&arena, (size_t)(k * 37 % 5000)));
        cr_assert_not_null(ad_arena_take(&arena, 1 << 20));
        if (round == 0) calls = memory.calls;
        cr_assert_eq(memory.calls, calls, "round %d asked for memory", round);
        cr_assert_leq(arena.bytes, (uint64_t)memory.bytes);
        ad_arena_rewind(&arena, 0);
    }
    ad_arena_close(&arena);
    test_memory_close(&memory);
    cr_assert_eq(arena.bytes, 0);
    ad_arena_rewind(&arena, 0);
}

Test(arena, without_memory_gives_null_and_goes_on) {
    test_memory memory;
    test_memory_open(&memory);
    ad_arena arena;
    ad_arena_open(&arena, &memory.allocator);
    char *text = ad_arena_text(&arena, "kept");
    uint64_t position = ad_arena_position(&arena);
    memory.fail_at = memory.calls + 1;
    cr_assert_null(ad_arena_take(&arena, 1 << 20));
    cr_assert_null(ad_arena_take(&arena, SIZE_MAX));
    cr_assert_null(ad_arena_take(&arena, SIZE_MAX - 7));
    cr_assert_eq(ad_arena_position(&arena), position);
    cr_assert_not_null(ad_arena_take(&arena, 1 << 20));
    cr_assert_str_eq(text, "kept");
    ad_arena_close(&arena);
    test_memory_close(&memory);
}

/* ---- the list, the default allocator ----------------------------------------------------------------------------- */

Test(list, grows_and_keeps_its_items) {
    test_memory memory;
    test_memory_open(&memory);
    ad_list list = {0};
    for (uint32_t i = 0; i < 10000; i++) {
        cr_assert(ad_list_reserve(&list, &memory.allocator, 1));
        ad_list_push(&list, i * i);
    }
    memory.fail_at = memory.calls + 1;
    cr_assert_not(ad_list_reserve(&list, &memory.allocator, 100000));
    cr_assert(ad_list_reserve(&list, &memory.allocator, 100000));
    cr_assert_geq(list.room, 110000);
    cr_assert_eq(list.count, 10000);
    for (uint32_t i = 0; i < 10000; i++) cr_assert_eq(list.item[i], i * i);
    cr_assert_lt(memory.calls, 20, "it doubles");
    ad_list_free(&list, &memory.allocator);
    ad_list_free(&list, &memory.allocator);
    test_memory_close(&memory);
}

Test(allocator, the_default_aligns) {
    const ad_allocator *allocator = ad_allocator_default();
    for (size_t alignment = 1; alignment <= 4096; alignment *= 2) {
        for (size_t size = 1; size < 10000; size = size * 3 + 1) {
            void *memory = ad_allocate(allocator, size, alignment);
            cr_assert_eq((uintptr_t)memory % alignment, 0);
            memset(memory, 1, size);
            ad_release(allocator, memory, size);
        }
    }
    cr_assert_null(ad_allocate(allocator, SIZE_MAX, 4096));
    ad_release(allocator, NULL, 0);
}
