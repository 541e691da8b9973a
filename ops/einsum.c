/* einsum and tensordot: sums of products over named axes, as permutations, reshapes and matrix products.
 *
 *   label   an axis by name: a letter, or the place of an axis that "..." stands for, counted from the right.
 *   term    an operand or intermediate result, each label at most once: a repeated letter was made its diagonal.
 *
 * Terms are contracted in pairs, always the pair whose product is smallest compared with what it replaces. A label that
 * both have and nothing else needs is summed over: it becomes the inner axis of a matrix product. */
#include "autodiff/tape/tape.h"
#include "ops/ops.h"

#include <math.h>
#include <string.h>

enum { LETTERS = 52, LABELS = LETTERS + AD_MAX_RANK };

typedef struct term {
    ad_var x;
    int rank;
    int label[AD_MAX_RANK];
} term;

typedef uint64_t label_set;
_Static_assert(LABELS <= 64, "a set of labels is one word");
static label_set set_of(int label) { return (label_set)1 << label; }

typedef struct einsum {
    const char *where, *subject;
    ad_tape *tape;
    const char *spec;
    int count; /* of terms */
    term *terms;
    int64_t size[LABELS]; /* -1: not seen yet */
    int seen_in[LABELS];  /* by which operand */
    term output;          /* labels only */
} einsum;

static ad_shape shape_of(ad_var x) { return ad_value(x).shape; }

static label_set labels_of(const term *t) {
    label_set set = 0;
    for (int i = 0; i < t->rank; i++) set |= set_of(t->label[i]);
    return set;
}

/* ---- errors ------------------------------------------------------------------------------------------------------ */

/* `"ij,[j]k->ik": message`, with brackets around the part of the text that is meant. */
static bool fail(einsum *e, ad_status status, const char *at, int length, const char *format, ...) AD_PRINTF(5, 6);
static bool fail(einsum *e, ad_status status, const char *at, int length, const char *format, ...) {
    char text[sizeof((ad_error *)0)->message];
    size_t used = 0;
    va_list args;
    ad_text_add(text, sizeof text, &used, "\"%.*s%s%.*s%s%s\": ", (int)(at - e->spec), e->spec, length ? "[" : "",
                length, at, length ? "]" : "", at + length);
    va_start(args, format);
    ad_text_add_v(text, sizeof text, &used, format, args);
    va_end(args);
    ad_tape_fail(e->tape, status, e->subject, e->where, "%s", text);
    return false;
}

/* "A is f64[2,3]" */
static const char *describe(einsum *e, int operand, char text[AD_TYPE_TEXT + 128]) {
    ad_node_text(e->tape, e->terms[operand].x.index, true, text, AD_TYPE_TEXT + 128);
    return text;
}

/* ---- reading the text -------------------------------------------------------------------------------------------- */

static int letter(char c) { return c >= 'a' && c <= 'z' ? 26 + c - 'a' : c >= 'A' && c <= 'Z' ? c - 'A' : -1; }

/* The labels of one operand or of the output. Those of "..." stand in its place. */
typedef struct letters {
    int count; /* with those of the ellipsis */
    int label[AD_MAX_RANK];
    const char *at[AD_MAX_RANK];
    const char *start, *end, *ellipsis; /* NULL: there is none */
} letters;

static bool add_label(einsum *e, letters *l, int label, const char *at) {
    if (l->count == AD_MAX_RANK) return fail(e, AD_ERR_LIMIT, at, 1, "more than %d axes", AD_MAX_RANK);
    l->at[l->count] = at;
    l->label[l->count++] = label;
    return true;
}

static bool read_labels(einsum *e, const char **at, int ellipsis, letters *l) {
    const char *p = *at;
    *l = (letters){.start = p};
    for (; *p && *p != ',' && *p != '-'; p++) {
        if (*p == ' ') continue;
        if (*p == '.') {
            if (strncmp(p, "...", 3) != 0) return fail(e, AD_ERR_VALUE, p, 1, "a \".\" that is not part of \"...\"");
            if (l->ellipsis) return fail(e, AD_ERR_VALUE, p, 3, "a second \"...\" in one place");
            l->ellipsis = p;
            for (int i = ellipsis - 1; i >= 0; i--)
                if (!add_label(e, l, LETTERS + i, p)) return false;
            p += 2;
        } else if (letter(*p) >= 0) {
            if (!add_label(e, l, letter(*p), p)) return false;
        } else {
            return fail(e, AD_ERR_VALUE, p, 1, "axes are named by letters");
        }
    }
    l->end = p;
    *at = p;
    return true;
}

/* How many axes "..." stands for in an operand of this rank: what its letters leave. */
static bool read_operand(einsum *e, const char **at, int operand, letters *l) {
    char text[AD_TYPE_TEXT + 128];
    const char *start = *at;
    int rank = shape_of(e->terms[operand].x).rank;
    if (!read_labels(e, at, 0, l)) return false;
    int rest = rank - l->count;
    if (rest < 0 || (rest > 0 && !l->ellipsis))
        return fail(e, AD_ERR_SHAPE, l->start, (int)(l->end - l->start),
                    "%d letter%s for an operand of rank %d: %s%s", l->count, l->count == 1 ? "" : "s", rank,
                    describe(e, operand, text), rest > 0 ? "; \"...\" stands for axes without a letter" : "");
    *at = start;
    return read_labels(e, at, rest, l);
}

/* A letter has one length everywhere; axes of "..." broadcast. */
static bool note_size(einsum *e, int operand, int label, int64_t size, const char *at) {
    int64_t *known = &e->size[label];
    char before[AD_TYPE_TEXT + 128], now[AD_TYPE_TEXT + 128];
    if (*known < 0 || (label >= LETTERS && *known == 1)) {
        *known = size;
        e->seen_in[label] = operand;
        return true;
    }
    if (*known == size || (label >= LETTERS && size == 1)) return true;
    if (e->seen_in[label] == operand)
        return fail(e, AD_ERR_SHAPE, at, 1, "%c has length %lld here, but %lld before: %s", *at, (long long)size,
                    (long long)*known, describe(e, operand, now));
    return fail(e, AD_ERR_SHAPE, at, label < LETTERS ? 1 : 3, "%s%.*s has length %lld here, but %lld before: %s, %s",
                label < LETTERS ? "" : "an axis of ", label < LETTERS ? 1 : 3, at, (long long)size, (long long)*known,
                describe(e, e->seen_in[label], before), describe(e, operand, now));
}

/* ---- one operand ------------------------------------------------------------------------------------------------- */

/* Axis i of the result is axis order[i] of x. */
static ad_var permute(einsum *e, ad_var x, int rank, const int *order) {
    ad_axes axes = {.count = rank, .axis = {0}};
    bool same = true;
    for (int i = 0; i < rank; i++) {
        axes.axis[i] = order[i];
        same &= order[i] == i;
    }
    return same ? x : ad_permute_at(e->where, x, axes);
}

static ad_var reshape(einsum *e, ad_var x, const ad_shape *shape) {
    ad_shape now = shape_of(x);
    return ad_shape_equal(&now, shape) ? x : ad_reshape_at(e->where, x, *shape);
}

static void remove_label(term *t, int at) {
    t->rank--;
    for (int i = at; i < t->rank; i++) t->label[i] = t->label[i + 1];
}

/* Of two axes with one label their diagonal is taken, which becomes the last axis, until each label is there once. */
static void take_diagonals(einsum *e, term *t) {
    for (int i = 0; i < t->rank; i++) {
        for (int j = i + 1; j < t->rank; j++) {
            if (t->label[i] != t->label[j]) continue;
            int label = t->label[i];
            t->x = ad_diagonal_at(e->where, t->x, 0, i, j);
            remove_label(t, j);
            remove_label(t, i);
            t->label[t->rank++] = label;
            j = i; /* another axis is at i now */
        }
    }
}

/* Axes of "..." of length 1 that broadcast are dropped, for other terms have them; labels that only this term has, and
 * not the output, are summed over. */
static void drop_axes(einsum *e, term *t, label_set needed) {
    ad_shape shape = shape_of(t->x), kept = AD_SCALAR;
    ad_axes summed = AD_ALL_AXES;
    int rank = 0;
    for (int i = 0; i < t->rank; i++) {
        if (shape.dim[i] != e->size[t->label[i]]) continue;
        if (!(needed & set_of(t->label[i]))) summed.axis[summed.count++] = kept.rank;
        kept.dim[kept.rank++] = shape.dim[i];
        t->label[rank++] = t->label[i];
    }
    t->x = reshape(e, t->x, &kept);
    t->rank = rank;
    if (summed.count == 0) return;
    t->x = ad_sum_at(e->where, t->x, summed, false);
    rank = 0;
    for (int i = 0; i < t->rank; i++)
        if (needed & set_of(t->label[i])) t->label[rank++] = t->label[i];
    t->rank = rank;
}

/* ---- two terms --------------------------------------------------------------------------------------------------- */

/* Appends the labels of t that are in the set, in t's order. */
static int append(const term *t, label_set set, int *labels, int count) {
    for (int i = 0; i < t->rank; i++)
        if (set & set_of(t->label[i])) labels[count++] = t->label[i];
    return count;
}

/* The term's array with its axes in the order of `labels`. */
static ad_var arrange(einsum *e, const term *t, int rank, const int *labels) {
    int order[AD_MAX_RANK];
    for (int i = 0; i < rank; i++)
        for (int j = 0; j < t->rank; j++)
            if (t->label[j] == labels[i]) order[i] = j;
    return permute(e, t->x, rank, order);
}

static int64_t size_of(const einsum *e, const int *labels, int count) {
    int64_t size = 1;
    for (int i = 0; i < count; i++) size *= e->size[labels[i]];
    return size;
}

/* Where nothing is summed: [batch, left, 1...] * [batch, 1..., right]. */
static ad_var multiply(einsum *e, const term *a, const term *b, const term *y) {
    ad_shape shape[2] = {{.rank = y->rank, .dim = {0}}, {.rank = y->rank, .dim = {0}}};
    label_set set[] = {labels_of(a), labels_of(b)};
    int order[2][AD_MAX_RANK], count[2] = {0, 0};
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < y->rank; i++) {
            bool has = set[k] & set_of(y->label[i]);
            shape[k].dim[i] = has ? e->size[y->label[i]] : 1;
            if (has) order[k][count[k]++] = y->label[i];
        }
    }
    ad_var left = arrange(e, a, count[0], order[0]), right = arrange(e, b, count[1], order[1]);
    return ad_mul_at(e->where, reshape(e, left, &shape[0]), reshape(e, right, &shape[1]));
}

/* [batch..., left, summed] [batch..., summed, right] */
static ad_var multiply_matrices(einsum *e, const term *a, const term *b, const term *y, int batch, int left,
                                label_set summed) {
    enum { MOST_BATCH = AD_MAX_RANK - 2 };
    int inner[AD_MAX_RANK], order[2][AD_MAX_RANK], k = append(a, summed, inner, 0);
    const int right = y->rank - batch - left;
    ad_shape shape[2] = {AD_SCALAR, AD_SCALAR}, full = {.rank = y->rank, .dim = {0}};
    for (int i = 0; i < y->rank; i++) full.dim[i] = e->size[y->label[i]];
    if (batch > MOST_BATCH) shape[0] = AD_SHAPE(size_of(e, y->label, batch));
    for (int i = 0; i < batch && batch <= MOST_BATCH; i++) shape[0].dim[shape[0].rank++] = full.dim[i];
    shape[1] = shape[0];
    shape[0].dim[shape[0].rank++] = size_of(e, y->label + batch, left);
    shape[0].dim[shape[0].rank++] = shape[1].dim[shape[1].rank] = size_of(e, inner, k);
    shape[1].dim[shape[1].rank + 1] = size_of(e, y->label + batch + left, right);
    shape[1].rank += 2;
    memcpy(order[0], y->label, (size_t)(batch + left) * sizeof(int));
    memcpy(order[0] + batch + left, inner, (size_t)k * sizeof(int));
    memcpy(order[1], y->label, (size_t)batch * sizeof(int));
    memcpy(order[1] + batch, inner, (size_t)k * sizeof(int));
    memcpy(order[1] + batch + k, y->label + batch + left, (size_t)right * sizeof(int));
    ad_var rows = arrange(e, a, a->rank, order[0]), columns = arrange(e, b, b->rank, order[1]);
    ad_var product = ad_matmul_at(e->where, reshape(e, rows, &shape[0]), reshape(e, columns, &shape[1]));
    return e->tape->error.status ? product : reshape(e, product, &full);
}

/* The product of two terms, summed over the labels that both have and that are not needed. */
static bool contract(einsum *e, const term *a, const term *b, label_set needed, term *y) {
    label_set in_a = labels_of(a), in_b = labels_of(b), kept = in_a & in_b & needed, summed = in_a & in_b & ~needed;
    int label[2 * AD_MAX_RANK];
    int batch = append(a, kept, label, 0), left = append(a, in_a & ~in_b, label, batch) - batch;
    int rank = append(b, in_b & ~in_a, label, batch + left);
    if (rank > AD_MAX_RANK) {
        ad_tape_fail(e->tape, AD_ERR_LIMIT, e->subject, e->where,
                     "an intermediate result would have %d axes, but %d is the most: contract in several steps", rank,
                     AD_MAX_RANK);
        return false;
    }
    y->rank = rank;
    memcpy(y->label, label, (size_t)rank * sizeof *label);
    y->x = summed ? multiply_matrices(e, a, b, y, batch, left, summed) : multiply(e, a, b, y);
    return e->tape->error.status == AD_OK;
}

/* ---- all terms --------------------------------------------------------------------------------------------------- */

static double volume(const einsum *e, label_set set) {
    double size = 1;
    for (int label = 0; label < LABELS; label++)
        if (set & set_of(label)) size *= (double)e->size[label];
    return size;
}

/* What is needed besides terms i and j (-1: none). */
static label_set needed_without(const einsum *e, int i, int j) {
    label_set needed = labels_of(&e->output);
    for (int k = 0; k < e->count; k++)
        if (k != i && k != j) needed |= labels_of(&e->terms[k]);
    return needed;
}

/* The pair that grows memory least; of equals, the one with least to compute, then the first. One whose product would
 * have too many axes comes last. */
static void choose_pair(const einsum *e, int *first, int *second) {
    double least_growth = INFINITY, least_work = INFINITY;
    *first = 0, *second = 1;
    for (int i = 0; i < e->count; i++) {
        for (int j = i + 1; j < e->count; j++) {
            label_set a = labels_of(&e->terms[i]), b = labels_of(&e->terms[j]);
            label_set product = (a | b) & needed_without(e, i, j);
            double work = volume(e, a | b), growth = volume(e, product) - volume(e, a) - volume(e, b);
            if (__builtin_popcountll(product) > AD_MAX_RANK) growth = INFINITY;
            if (growth > least_growth || (growth == least_growth && work >= least_work)) continue;
            least_growth = growth, least_work = work;
            *first = i, *second = j;
        }
    }
}

static ad_var contract_all(einsum *e) {
    for (int k = 0; k < e->count && !e->tape->error.status; k++) drop_axes(e, &e->terms[k], needed_without(e, k, -1));
    while (e->count > 1 && !e->tape->error.status) {
        int i, j;
        term product;
        choose_pair(e, &i, &j);
        if (!contract(e, &e->terms[i], &e->terms[j], needed_without(e, i, j), &product)) break;
        e->terms[i] = product;
        e->terms[j] = e->terms[--e->count];
    }
    if (e->tape->error.status) return ad_var_invalid(e->tape);
    return arrange(e, &e->terms[0], e->output.rank, e->output.label);
}

/* ---- einsum ------------------------------------------------------------------------------------------------------ */

static bool read_operands(einsum *e, const char **at) {
    for (int k = 0;; k++) {
        letters l;
        if (k == e->count)
            return fail(e, AD_ERR_VALUE, *at, (int)strcspn(*at, ",-"), "names more operands than the %d given",
                        e->count);
        if (!read_operand(e, at, k, &l)) return false;
        ad_shape shape = shape_of(e->terms[k].x);
        for (int i = 0; i < l.count; i++)
            if (!note_size(e, k, l.label[i], shape.dim[i], l.at[i])) return false;
        e->terms[k].rank = l.count;
        memcpy(e->terms[k].label, l.label, sizeof l.label);
        if (**at == ',') {
            ++*at;
        } else if (k + 1 < e->count) {
            return fail(e, AD_ERR_VALUE, *at, 0, "names %d operand%s, but %d were given", k + 1, k ? "s" : "",
                        e->count);
        } else {
            return true;
        }
    }
}

static int ellipsis_axes(const einsum *e) {
    int count = 0;
    while (count < AD_MAX_RANK && e->size[LETTERS + count] >= 0) count++;
    return count;
}

/* Without an arrow: the axes of "...", then every letter that occurs once, in alphabetical order, capitals first. */
static bool implicit_output(einsum *e) {
    for (int i = ellipsis_axes(e) - 1; i >= 0; i--) e->output.label[e->output.rank++] = LETTERS + i;
    for (int label = 0; label < LETTERS; label++) {
        int times = 0;
        for (int k = 0; k < e->count; k++)
            for (int i = 0; i < e->terms[k].rank; i++) times += e->terms[k].label[i] == label;
        if (times != 1) continue;
        if (e->output.rank == AD_MAX_RANK)
            return fail(e, AD_ERR_LIMIT, e->spec, 0, "the result has more than %d axes", AD_MAX_RANK);
        e->output.label[e->output.rank++] = label;
    }
    return true;
}

static bool read_output(einsum *e, const char *at) {
    letters l;
    label_set seen = 0;
    if (*at == '\0') return implicit_output(e);
    if (strncmp(at, "->", 2) != 0) return fail(e, AD_ERR_VALUE, at, 1, "a \"-\" that is not part of \"->\"");
    at += 2;
    if (!read_labels(e, &at, ellipsis_axes(e), &l)) return false;
    if (*at) return fail(e, AD_ERR_VALUE, at, 1, "the output is one list of letters");
    if (!l.ellipsis && ellipsis_axes(e) > 0)
        return fail(e, AD_ERR_VALUE, l.start, (int)(l.end - l.start),
                    "the operands have axes in \"...\", so the output needs \"...\" too; name axes to sum over them");
    for (int i = 0; i < l.count; i++) {
        int label = l.label[i];
        if (e->size[label] < 0) return fail(e, AD_ERR_VALUE, l.at[i], 1, "%c is in no operand", *l.at[i]);
        if (seen & set_of(label)) return fail(e, AD_ERR_VALUE, l.at[i], 1, "%c is in the output twice", *l.at[i]);
        seen |= set_of(label);
        e->output.label[e->output.rank++] = label;
    }
    return true;
}

static bool check_operands(einsum *e, int n, const ad_var *operands) {
    if (n < 1 || !operands || !e->spec) {
        ad_tape_fail(e->tape, n < 1 ? AD_ERR_VALUE : AD_ERR_NULL, e->subject, e->where,
                     "%d operands, the list of them is %s, the text is %s", n, operands ? "set" : "NULL",
                     e->spec ? "set" : "NULL");
        return false;
    }
    for (int k = 0; k < n; k++) {
        char role[32];
        size_t length = 0;
        role[0] = '\0';
        ad_text_add(role, sizeof role, &length, "operand %d", k);
        if (!ad_tape_check_var(e->tape, operands[k], e->subject, e->where, role)) return false;
    }
    return true;
}

ad_var ad_einsum_at(const char *where, const char *spec, int n, const ad_var *operands) {
    ad_tape *tape = n > 0 && operands ? operands[0].tape : NULL;
    if (!tape || tape->error.status) return ad_var_invalid(tape);
    einsum e = {.where = where, .subject = "einsum", .tape = tape, .spec = spec, .count = n};
    if (!check_operands(&e, n, operands)) return ad_var_invalid(tape);
    uint64_t position = ad_arena_position(&tape->scratch);
    ad_var y = ad_var_invalid(tape);
    e.terms = ad_arena_take(&tape->scratch, (size_t)n * sizeof *e.terms);
    if (e.terms) {
        for (int k = 0; k < n; k++) e.terms[k] = (term){.x = operands[k]};
        for (int label = 0; label < LABELS; label++) e.size[label] = -1;
        if (read_operands(&e, &spec) && read_output(&e, spec)) {
            for (int k = 0; k < n; k++) take_diagonals(&e, &e.terms[k]);
            y = contract_all(&e);
        }
    } else {
        ad_tape_out_of_memory(tape, e.subject, where);
    }
    ad_arena_rewind(&tape->scratch, position);
    return y;
}

/* ---- tensordot --------------------------------------------------------------------------------------------------- */

/* Labels of b's axes: those of a for the pairs of axes, new ones for the rest. */
static bool pair_axes(einsum *e, term *b, const ad_axes *axes_a, const ad_axes *axes_b) {
    ad_shape shapes[] = {shape_of(e->terms[0].x), shape_of(e->terms[1].x)};
    char text[2][AD_TYPE_TEXT + 128];
    describe(e, 0, text[0]);
    describe(e, 1, text[1]);
    if (axes_a->count != axes_b->count || axes_a->count < 0 || axes_a->count > AD_MAX_RANK) {
        ad_tape_fail(e->tape, AD_ERR_INDEX, e->subject, e->where,
                     "%d axes of a, but %d of b: they are summed over in pairs", axes_a->count, axes_b->count);
        return false;
    }
    label_set used[2] = {0, 0};
    for (int i = 0; i < axes_a->count; i++) {
        const int asked[] = {axes_a->axis[i], axes_b->axis[i]};
        int at[2];
        for (int k = 0; k < 2; k++) {
            at[k] = ad_axis_index(asked[k], shapes[k].rank);
            bool again = at[k] >= 0 && used[k] & set_of(at[k]);
            if (at[k] >= 0 && !again) {
                used[k] |= set_of(at[k]);
                continue;
            }
            ad_tape_fail(e->tape, AD_ERR_INDEX, e->subject, e->where, "axis %d %s: %s", asked[k],
                         again ? "is named twice" : "is out of range", text[k]);
            return false;
        }
        if (shapes[0].dim[at[0]] != shapes[1].dim[at[1]]) {
            ad_tape_fail(e->tape, AD_ERR_SHAPE, e->subject, e->where,
                         "axis %d of %s and axis %d of %s differ in length", asked[0], text[0], asked[1], text[1]);
            return false;
        }
        b->label[at[1]] = at[0];
    }
    return true;
}

ad_var ad_tensordot_at(const char *where, ad_var a, ad_var b, ad_axes axes_a, ad_axes axes_b) {
    ad_tape *tape = a.tape ? a.tape : b.tape;
    if (!tape || tape->error.status) return ad_var_invalid(tape);
    einsum e = {.where = where, .subject = "tensordot", .tape = tape, .spec = "", .count = 2};
    if (!check_operands(&e, 2, (ad_var[]){a, b})) return ad_var_invalid(tape);
    ad_shape shape[] = {shape_of(a), shape_of(b)};
    term terms[2] = {{.x = a, .rank = shape[0].rank}, {.x = b, .rank = shape[1].rank}}, y;
    e.terms = terms;
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < shape[k].rank; i++) terms[k].label[i] = k * AD_MAX_RANK + i;
    if (!pair_axes(&e, &terms[1], &axes_a, &axes_b)) return ad_var_invalid(tape);
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < shape[k].rank; i++) e.size[terms[k].label[i]] = shape[k].dim[i];
    label_set needed = labels_of(&terms[0]) ^ labels_of(&terms[1]);
    return contract(&e, &terms[0], &terms[1], needed, &y) ? y.x : ad_var_invalid(tape);
}
