/* See reference.h. */
#include "reference.h"

#include "helpers.h"

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
    } else if (strcmp(keyword, "shape") == 0) {
        to->shape.rank = read_numbers(rest, to->shape.dim);
    } else if (strcmp(keyword, "number") == 0) {
        to->value = atof(rest);
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
    *next = (reference_case){.number = number};
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
