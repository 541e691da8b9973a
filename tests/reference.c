/* See reference.h. */
#include "reference.h"

#include "helpers.h"
#include "tapes.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

FILE *reference_open(const char *op) {
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/reference/%s.txt", ADTAPE_SOURCE_DIR, op);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file, "%s cannot be read", path);
    return file;
}

/* "f64[2,3] 1 2 3 4 5 6" */
static ad_view read_array(char *text) {
    ad_dtype dtype = strncmp(text, "f64", 3) == 0 ? AD_F64 : strncmp(text, "i32", 3) == 0 ? AD_I32 : AD_I64;
    ad_shape shape = AD_SCALAR;
    for (text += 4; *text != ']'; text += *text == ',') shape.dim[shape.rank++] = strtoll(text, &text, 10);
    ad_view view = test_array(dtype, shape, TEST_DENSE);
    text++;
    for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++) {
        cr_assert_eq(*text, ' ', "numbers are missing");
        test_set(&view, i, strtod(text, &text));
    }
    cr_assert_eq(*text, '\0', "more numbers than elements");
    return view;
}

static int read_numbers(char *text, int64_t numbers[AD_MAX_RANK]) {
    int count = 0;
    while (*text) numbers[count++] = strtoll(text, &text, 10);
    return count;
}

static void add_gradient(reference_case *to, ad_view gradient) {
    int i = 0;
    while (to->gradient[i].data || !ad_dtype_is_float(to->input[i].dtype)) i++;
    to->gradient[i] = gradient;
}

static void read_line(reference_case *to, const char *keyword, char *rest) {
    int64_t numbers[AD_MAX_RANK];
    if (strcmp(keyword, "f64") == 0) {
        to->only_f64 = true;
    } else if (strcmp(keyword, "axis") == 0) {
        to->axis = atoi(rest);
    } else if (strcmp(keyword, "axes") == 0) {
        to->axes.count = read_numbers(rest, numbers);
        for (int i = 0; i < to->axes.count; i++) to->axes.axis[i] = (int)numbers[i];
    } else if (strcmp(keyword, "keepdim") == 0) {
        to->keepdim = true;
    } else if (strcmp(keyword, "reverse") == 0) {
        to->reverse = true;
    } else if (strcmp(keyword, "shape") == 0) {
        to->shape.rank = read_numbers(rest, to->shape.dim);
    } else if (strcmp(keyword, "number") == 0) {
        sscanf(rest, "%lf %lf", &to->value, &to->other);
    } else if (strcmp(keyword, "text") == 0) {
        snprintf(to->text, sizeof to->text, "%s", rest);
    } else if (strcmp(keyword, "tolerance") == 0) {
        to->tolerance = atof(rest);
    } else if (strcmp(keyword, "input") == 0) {
        to->input[to->inputs++] = read_array(rest);
    } else if (strcmp(keyword, "seed") == 0) {
        to->seed = read_array(rest);
        to->has_gradients = true;
    } else if (strcmp(keyword, "result") == 0) {
        to->result = read_array(rest);
    } else if (strcmp(keyword, "gradient") == 0) {
        add_gradient(to, read_array(rest));
    } else {
        cr_assert_fail("unknown line: %s", keyword);
    }
}

bool reference_next(FILE *file, reference_case *next) {
    int number = next->number + 1;
    char *line = NULL;
    size_t room = 0;
    bool found = false;
    *next = (reference_case){.number = number, .tolerance = 1e-13};
    for (;;) {
        long before = ftell(file);
        ssize_t length = getline(&line, &room, file);
        if (length < 0) break;
        if (length > 0 && line[length - 1] == '\n') line[length - 1] = '\0';
        if (line[0] == '#') continue;
        if (strcmp(line, "case") == 0) {
            if (found) {
                fseek(file, before, SEEK_SET); /* the next one's */
                break;
            }
            found = true;
            continue;
        }
        char *rest = line + strcspn(line, " ");
        if (*rest) *rest++ = '\0';
        read_line(next, line, rest);
    }
    free(line);
    return found;
}

/* ---- comparing ------------------------------------------------------------------------------------------------------ */

/* Where a comparison is made, for messages. */
typedef struct place {
    const char *op;
    int number; /* of the case */
    ad_dtype dtype;
    test_layout layout;
    double tolerance;
} place;

static void compare(const place *at, const char *what, const ad_view *got, const ad_view *want) {
    const double tolerance = at->tolerance * (at->dtype == AD_F64 ? 1 : 1e8);
    cr_assert(ad_shape_equal(&got->shape, &want->shape), "%s, case %d: shape of the %s", at->op, at->number, what);
    cr_assert_eq(got->dtype, want->dtype == AD_F64 ? at->dtype : want->dtype, "%s: dtype of the %s", at->op, what);
    for (int64_t i = 0, n = ad_shape_count(&want->shape); i < n; i++)
        cr_assert(test_near(test_get(got, i), test_get(want, i), tolerance),
                  "%s, case %d, %s, layout %d: element %lld of the %s is %.17g, not %.17g", at->op, at->number,
                  ad_dtype_name(at->dtype), at->layout, (long long)i, what, test_get(got, i), test_get(want, i));
}

/* The array's values in a tensor of the place's dtype and layout. */
static ad_tensor *laid_out(const place *at, const ad_view *values) {
    ad_view view = test_array(values->dtype == AD_F64 ? at->dtype : values->dtype, values->shape, at->layout);
    for (int64_t i = 0, n = ad_shape_count(&view.shape); i < n; i++) test_set(&view, i, test_get(values, i));
    ad_tensor *tensor;
    cr_assert_eq(ad_tensor_wrap(&tensor, NULL, &view, NULL, NULL, NULL), AD_OK);
    return tensor;
}

/* Gradients by a walk back, all at once and each alone, and recorded. */
static void compare_gradients(const place *at, ad_var y, ad_var seed, const ad_var *in, const reference_case *c) {
    ad_var recorded[REFERENCE_INPUTS];
    for (int i = 0; i < c->inputs; i++) {
        if (!c->gradient[i].data) continue;
        ad_backward_options all = {.seed = seed}, one = {.seed = seed, .wrt = &in[i], .wrt_count = 1};
        ad_backward_with(y, &all);
        ad_view gradient = ad_gradient(in[i]);
        compare(at, "gradient", &gradient, &c->gradient[i]);
        ad_backward_with(y, &one);
        gradient = ad_gradient(in[i]);
        compare(at, "gradient alone", &gradient, &c->gradient[i]);
        ad_grad(y, seed, 1, &in[i], &recorded[i]);
        gradient = ad_value(recorded[i]);
        compare(at, "recorded gradient", &gradient, &c->gradient[i]);
    }
}

static void check_case(const place *at, reference_constructor make, const reference_case *c) {
    ad_tape *t = ad_tape_new(NULL);
    ad_tensor *tensor[REFERENCE_INPUTS], *seed_tensor = c->has_gradients ? laid_out(at, &c->seed) : NULL;
    ad_var in[REFERENCE_INPUTS];
    for (int i = 0; i < c->inputs; i++) {
        tensor[i] = laid_out(at, &c->input[i]);
        in[i] = ad_leaf_tensor(t, NULL, tensor[i]);
    }
    ad_var y = make(in, c);
    ad_view value = ad_value(y);
    cr_assert_eq(ad_tape_status(t), AD_OK, "%s, case %d: %s", at->op, at->number, ad_tape_error(t));
    compare(at, "result", &value, &c->result);
    if (c->has_gradients) compare_gradients(at, y, ad_constant_tensor(t, NULL, seed_tensor), in, c);
    expect_ok(t);
    for (int i = 0; i < c->inputs; i++) ad_tensor_unref(tensor[i]);
    ad_tensor_unref(seed_tensor);
    ad_tape_free(t);
}

void reference_check(const char *op, reference_constructor make) {
    FILE *file = reference_open(op);
    reference_case c = {.number = 0};
    while (reference_next(file, &c)) {
        for (int layout = 0; layout < TEST_LAYOUTS; layout++) {
            place at = {.op = op, .number = c.number, .dtype = AD_F64, .layout = (test_layout)layout};
            at.tolerance = c.tolerance;
            check_case(&at, make, &c);
            at.dtype = AD_F32;
            if (!c.only_f64) check_case(&at, make, &c);
        }
    }
    fclose(file);
    cr_assert_gt(c.number, 3, "%s has %d cases", op, c.number - 1);
}
