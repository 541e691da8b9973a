/* Sparse Jacobians and Hessians: the pattern from the tape, a colouring, one product for each colour. */
#include "autodiff/transform/coloring.h"
#include "autodiff/transform/linear.h"

#include <string.h>

struct ad_sparse {
    const ad_allocator *allocator;
    ad_arena memory; /* of everything below */
    ad_pattern pattern;
    double *value;
    bool pulls; /* the colours are of rows */
    int64_t colors;
    int64_t *seed_start, *seed; /* the columns (rows) of each colour, one colour after the other */
    /* And what is read from its product: value[element[k]] = product[at[k]]. */
    int64_t *read_start, *element, *at;
    int64_t batch, vertices, results; /* products at a time; and the lengths of these: */
    double *vectors, *products;       /* [batch, vertices], of zeros; [batch, results] */
};

static void *take(ad_arena *memory, int64_t count, size_t size) {
    void *made = ad_arena_take(memory, (count ? (size_t)count : 1) * size);
    if (made) memset(made, 0, (size_t)count * size);
    return made;
}
static int64_t *take_numbers(ad_arena *memory, int64_t count) { return take(memory, count, sizeof(int64_t)); }

/* ---- patterns -------------------------------------------------------------------------------------------------------- */

static bool open_pattern(ad_arena *memory, int64_t rows, int64_t columns, int64_t count, ad_pattern *pattern) {
    *pattern = (ad_pattern){.rows = rows, .columns = columns};
    pattern->start = take_numbers(memory, rows + 1);
    pattern->column = take_numbers(memory, count);
    return pattern->start && pattern->column;
}

static int64_t size_of(const ad_pattern *pattern) { return pattern->start[pattern->rows]; }

/* Columns are ascending again, because rows are visited in order. */
static bool transpose(ad_arena *memory, const ad_pattern *pattern, ad_pattern *transposed) {
    int64_t *next = take_numbers(memory, pattern->columns);
    if (!next || !open_pattern(memory, pattern->columns, pattern->rows, size_of(pattern), transposed)) return false;
    for (int64_t e = 0; e < size_of(pattern); e++) transposed->start[pattern->column[e] + 1]++;
    for (int64_t c = 0; c < pattern->columns; c++) {
        transposed->start[c + 1] += transposed->start[c];
        next[c] = transposed->start[c];
    }
    for (int64_t r = 0; r < pattern->rows; r++)
        for (int64_t e = pattern->start[r]; e < pattern->start[r + 1]; e++)
            transposed->column[next[pattern->column[e]]++] = r;
    return true;
}

/* The elements of either, where both are of one size. */
static bool unite(ad_arena *memory, const ad_pattern *a, const ad_pattern *b, ad_pattern *both) {
    if (!open_pattern(memory, a->rows, a->columns, size_of(a) + size_of(b), both)) return false;
    int64_t count = 0;
    for (int64_t r = 0; r < a->rows; r++) {
        int64_t i = a->start[r], j = b->start[r];
        while (i < a->start[r + 1] || j < b->start[r + 1]) {
            int64_t x = i < a->start[r + 1] ? a->column[i] : INT64_MAX;
            int64_t y = j < b->start[r + 1] ? b->column[j] : INT64_MAX;
            both->column[count++] = x < y ? x : y;
            i += x <= y;
            j += y <= x;
        }
        both->start[r + 1] = count;
    }
    return true;
}

static bool pattern_of_rows(ad_arena *memory, const ad_dependence_rows *rows, int64_t columns, ad_pattern *pattern) {
    int64_t count = 0;
    for (int64_t r = 0; r < rows->count; r++) count += rows->row[r]->count;
    if (!open_pattern(memory, rows->count, columns, count, pattern)) return false;
    count = 0;
    for (int64_t r = 0; r < rows->count; r++) {
        for (uint32_t i = 0; i < rows->row[r]->count; i++) pattern->column[count++] = rows->row[r]->column[i];
        pattern->start[r + 1] = count;
    }
    return true;
}

/* What the recording says. A failure is not the tape's for good. */
static ad_status read_pattern(ad_linear *linear, ad_arena *memory, ad_pattern *pattern, const char *subject,
                              ad_error *error) {
    ad_error_scope scope;
    ad_dependence_rows rows;
    bool fits = false;
    ad_error_scope_begin(&scope, linear->tape);
    bool found = ad_tape_depends(linear->tape, subject, linear->where, linear->n, linear->x, linear->m, linear->y,
                                 &rows);
    if (found) {
        fits = pattern_of_rows(memory, &rows, linear->columns, pattern);
        ad_arena_close(&rows.memory);
    } else {
        ad_error_set(error, linear->tape->error.status, "%s", linear->tape->error.message);
    }
    ad_status status = ad_error_scope_end(&scope, linear->tape);
    return fits || status ? status : ad_error_set(error, AD_ERR_OOM, "%s: out of memory for the pattern", subject);
}

/* ---- what to multiply with, and where to read -------------------------------------------------------------------------- */

/* Where element e, of row r and column c, is read: in the product of which colour, at which place. */
typedef struct source {
    int64_t color, at;
} source;

/* How many neighbours of v (with itself) have that colour; 2: more than one. */
static int64_t alike(const ad_pattern *p, const int64_t *color, int64_t v, int64_t which) {
    int64_t count = 0;
    for (int64_t i = p->start[v]; i < p->start[v + 1] && count < 2; i++) count += color[p->column[i]] == which;
    return count;
}

static source source_of(const ad_sparse *sparse, bool is_symmetric, const int64_t *color, int64_t r, int64_t c) {
    if (is_symmetric && alike(&sparse->pattern, color, r, color[c]) == 1) return (source){color[c], r};
    return sparse->pulls ? (source){color[r], c} : (source){color[c], r};
}

/* Lists the vertices by colour. */
static bool list_seeds(ad_sparse *sparse, int64_t vertices, const int64_t *color, int64_t *next) {
    sparse->seed_start = take_numbers(&sparse->memory, sparse->colors + 1);
    sparse->seed = take_numbers(&sparse->memory, vertices);
    if (!sparse->seed_start || !sparse->seed) return false;
    for (int64_t v = 0; v < vertices; v++) sparse->seed_start[color[v] + 1]++;
    for (int64_t c = 0; c < sparse->colors; c++) {
        sparse->seed_start[c + 1] += sparse->seed_start[c];
        next[c] = sparse->seed_start[c];
    }
    for (int64_t v = 0; v < vertices; v++) sparse->seed[next[color[v]]++] = v;
    return true;
}

/* Lists the elements by the colour whose product they are read from. */
static bool list_reads(ad_sparse *sparse, bool is_symmetric, const int64_t *color, int64_t *next) {
    const ad_pattern *p = &sparse->pattern;
    int64_t count = size_of(p);
    source *from = take(&sparse->memory, count, sizeof *from);
    sparse->read_start = take_numbers(&sparse->memory, sparse->colors + 1);
    sparse->element = take_numbers(&sparse->memory, count);
    sparse->at = take_numbers(&sparse->memory, count);
    if (!from || !sparse->read_start || !sparse->element || !sparse->at) return false;
    for (int64_t r = 0; r < p->rows; r++) {
        for (int64_t e = p->start[r]; e < p->start[r + 1]; e++) {
            from[e] = source_of(sparse, is_symmetric, color, r, p->column[e]);
            sparse->read_start[from[e].color + 1]++;
        }
    }
    for (int64_t c = 0; c < sparse->colors; c++) {
        sparse->read_start[c + 1] += sparse->read_start[c];
        next[c] = sparse->read_start[c];
    }
    for (int64_t e = 0; e < count; e++) {
        int64_t k = next[from[e].color]++;
        sparse->element[k] = e;
        sparse->at[k] = from[e].at;
    }
    return true;
}

static int64_t longest_row(const ad_pattern *pattern) {
    int64_t longest = 0;
    for (int64_t r = 0; r < pattern->rows; r++) {
        int64_t length = pattern->start[r + 1] - pattern->start[r];
        if (length > longest) longest = length;
    }
    return longest;
}

/* Colours rows or columns, of whichever fewer must differ: at least as many as meet in one column, or row. */
static bool plan(ad_sparse *sparse, const ad_linear *linear, bool is_symmetric) {
    ad_arena *memory = &sparse->memory;
    ad_pattern transposed, own = sparse->pattern;
    if (!transpose(memory, &own, &transposed)) return false;
    if (is_symmetric && !unite(memory, &own, &transposed, &sparse->pattern)) return false;
    sparse->pulls = is_symmetric || longest_row(&transposed) < longest_row(&own);
    int64_t vertices = sparse->pulls ? own.rows : own.columns;
    int64_t *color = take_numbers(memory, vertices), *scratch = take_numbers(memory, vertices + 1);
    if (!color || !scratch) return false;
    if (is_symmetric) {
        sparse->colors = ad_color_star(&sparse->pattern, color, scratch);
    } else if (sparse->pulls) {
        sparse->colors = ad_color_columns(&transposed, &own, color, scratch);
    } else {
        sparse->colors = ad_color_columns(&own, &transposed, color, scratch);
    }
    sparse->value = take(memory, size_of(&sparse->pattern), sizeof(double));
    sparse->batch = ad_linear_batch(linear, sparse->colors);
    sparse->vertices = vertices;
    sparse->results = sparse->pulls ? own.columns : own.rows;
    sparse->vectors = take(memory, sparse->batch * sparse->vertices, sizeof(double));
    sparse->products = take(memory, sparse->batch * sparse->results, sizeof(double));
    return sparse->value && sparse->vectors && sparse->products && list_seeds(sparse, vertices, color, scratch) &&
           list_reads(sparse, is_symmetric, color, scratch);
}

/* ---- the matrix -------------------------------------------------------------------------------------------------------- */

/* Sets the sums of the unit vectors of some colours to 1, or back to 0. */
static void put_colors(const ad_sparse *sparse, int64_t first, int64_t count, double number) {
    for (int64_t k = 0; k < count; k++) {
        double *vector = sparse->vectors + k * sparse->vertices;
        for (int64_t i = sparse->seed_start[first + k]; i < sparse->seed_start[first + k + 1]; i++)
            vector[sparse->seed[i]] = number;
    }
}

static ad_status fill(ad_sparse *sparse, ad_linear *linear, ad_error *error) {
    ad_status status = AD_OK;
    for (int64_t first = 0; first < sparse->colors && !status; first += sparse->batch) {
        const int64_t left = sparse->colors - first, count = left < sparse->batch ? left : sparse->batch;
        put_colors(sparse, first, count, 1);
        status = ad_linear_multiply(linear, sparse->pulls, count, sparse->vectors, sparse->products, error);
        put_colors(sparse, first, count, 0);
        for (int64_t c = 0; c < count && !status; c++)
            for (int64_t k = sparse->read_start[first + c]; k < sparse->read_start[first + c + 1]; k++)
                sparse->value[sparse->element[k]] = sparse->products[c * sparse->results + sparse->at[k]];
    }
    return status;
}

static bool is_gradient(const ad_linear *linear) {
    const ad_transform *transform = linear->f->transform;
    return transform && transform->is_gradient;
}

ad_status ad_sparse_new(ad_sparse **out, ad_linear *linear, ad_error *error) {
    if (!out) return ad_error_set(error, AD_ERR_NULL, "ad_sparse_new: out is NULL");
    *out = NULL;
    ad_status status = ad_linear_check(linear, "ad_sparse_new", error);
    if (status) return status;
    ad_sparse *sparse = ad_allocate(linear->allocator, sizeof *sparse, _Alignof(ad_sparse));
    if (!sparse) return ad_error_set(error, AD_ERR_OOM, "ad_sparse_new: out of memory");
    *sparse = (ad_sparse){.allocator = linear->allocator};
    ad_arena_open(&sparse->memory, sparse->allocator);
    status = read_pattern(linear, &sparse->memory, &sparse->pattern, "ad_sparse_new", error);
    if (!status && !plan(sparse, linear, is_gradient(linear)))
        status = ad_error_set(error, AD_ERR_OOM, "ad_sparse_new: out of memory for the matrix");
    if (!status) status = fill(sparse, linear, error);
    if (status) {
        ad_sparse_free(sparse);
        return status;
    }
    *out = sparse;
    return AD_OK;
}

void ad_sparse_free(ad_sparse *sparse) {
    if (!sparse) return;
    ad_arena_close(&sparse->memory);
    ad_release(sparse->allocator, sparse, sizeof *sparse);
}

ad_csr ad_sparse_matrix(const ad_sparse *sparse) {
    if (!sparse) return (ad_csr){.rows = 0};
    const ad_pattern *p = &sparse->pattern;
    return (ad_csr){p->rows, p->columns, p->start, p->column, sparse->value};
}

int64_t ad_sparse_products(const ad_sparse *sparse) { return sparse ? sparse->colors : 0; }

ad_status ad_sparse_update(ad_sparse *sparse, ad_linear *linear, ad_error *error) {
    if (!sparse) return ad_error_set(error, AD_ERR_NULL, "ad_sparse_update: the matrix is NULL");
    ad_status status = ad_linear_check(linear, "ad_sparse_update", error);
    if (status) return status;
    if (linear->rows != sparse->pattern.rows || linear->columns != sparse->pattern.columns)
        return ad_error_set(error, AD_ERR_SHAPE, "ad_sparse_update: the map is %lld x %lld, the matrix %lld x %lld",
                            (long long)linear->rows, (long long)linear->columns, (long long)sparse->pattern.rows,
                            (long long)sparse->pattern.columns);
    return fill(sparse, linear, error);
}

/* ---- the diagonal ------------------------------------------------------------------------------------------------------ */

static ad_status diagonal_in(ad_arena *memory, ad_linear *linear, double *diagonal, ad_error *error) {
    ad_pattern pattern, transposed, both;
    int64_t n = linear->columns;
    ad_status status = read_pattern(linear, memory, &pattern, "ad_linear_diagonal", error);
    if (status) return status;
    int64_t *color = take_numbers(memory, n), *scratch = take_numbers(memory, n + 1);
    if (!color || !scratch || !transpose(memory, &pattern, &transposed) ||
        !unite(memory, &pattern, &transposed, &both))
        return ad_error_set(error, AD_ERR_OOM, "ad_linear_diagonal: out of memory");
    const int64_t colors = ad_color_neighbours(&both, color, scratch), batch = ad_linear_batch(linear, colors);
    double *vectors = take(memory, batch * n, sizeof(double)), *products = take(memory, batch * n, sizeof(double));
    if (!vectors || !products) return ad_error_set(error, AD_ERR_OOM, "ad_linear_diagonal: out of memory");
    for (int64_t first = 0; first < colors && !status; first += batch) {
        const int64_t count = colors - first < batch ? colors - first : batch;
        for (int64_t v = 0; v < n; v++)
            for (int64_t k = 0; k < count; k++) vectors[k * n + v] = color[v] == first + k;
        status = ad_linear_multiply(linear, is_gradient(linear), count, vectors, products, error);
        for (int64_t v = 0; v < n && !status; v++)
            if (color[v] >= first && color[v] < first + count) diagonal[v] = products[(color[v] - first) * n + v];
    }
    return status;
}

ad_status ad_linear_diagonal(ad_linear *linear, double *diagonal, ad_error *error) {
    ad_status status = ad_linear_check(linear, "ad_linear_diagonal", error);
    if (status) return status;
    if (!diagonal) return ad_error_set(error, AD_ERR_NULL, "ad_linear_diagonal: the result is NULL");
    if (linear->rows != linear->columns)
        return ad_error_set(error, AD_ERR_SHAPE, "ad_linear_diagonal: the matrix is %lld x %lld, not square",
                            (long long)linear->rows, (long long)linear->columns);
    ad_arena memory;
    ad_arena_open(&memory, linear->allocator);
    status = diagonal_in(&memory, linear, diagonal, error);
    ad_arena_close(&memory);
    return status;
}
