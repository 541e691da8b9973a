/* Results and gradients of a subject, as plain numbers, in any way. */
#include "autodiff/check/check.h"

#include <math.h>
#include <string.h>

double *ad_checker_numbers(ad_checker *checker, int64_t count) {
    size_t bytes = (size_t)count * sizeof(double);
    double *numbers = ad_arena_take(&checker->memory, bytes);
    if (!numbers) {
        ad_report_no_memory(checker);
        return NULL;
    }
    memset(numbers, 0, bytes);
    return numbers;
}

/* ---- tensors in any layout -------------------------------------------------------------------------------------- */

/* Every other element in memory is NaN, which shows if it is read. */
static ad_status new_in_layout(ad_tensor **out, const ad_allocator *allocator, ad_dtype dtype, const ad_shape *shape,
                               const ad_layout *layout) {
    int step = layout->step < 0 ? -layout->step : layout->step;
    ad_shape memory = *shape;
    for (int i = 0; i < shape->rank; i++) {
        int axis = layout->column_major ? shape->rank - 1 - i : i;
        memory.dim[i] = (layout->repeated && axis == 0 && shape->dim[0] > 0 ? 1 : shape->dim[axis]) * step + 1;
    }
    ad_tensor *base;
    ad_status status = ad_tensor_new(&base, allocator, dtype, memory, NULL, NULL);
    if (status) return status;
    ad_view view = *ad_tensor_view(base);
    for (int64_t i = 0, n = ad_view_count(&view); i < n && ad_dtype_is_float(dtype); i++)
        ad_element_set((char *)view.data + i * (int64_t)ad_dtype_size(dtype), dtype, NAN);
    if (layout->column_major) status = ad_view_permute(&view, &AD_ALL_AXES, &view);
    for (int axis = 0; axis < shape->rank && !status; axis++) {
        int64_t last = view.shape.dim[axis] - 1;
        status = layout->step > 0 ? ad_view_slice(&view, axis, 1, last + 1, step, &view)
                                  : ad_view_slice(&view, axis, last, 0, -step, &view);
    }
    if (!status) status = ad_view_broadcast(&view, shape, &view);
    if (!status) status = ad_tensor_alias(out, base, &view, NULL);
    ad_tensor_unref(base);
    return status;
}

/* A tensor with the elements of `from`, as the way wants it. */
static ad_tensor *new_tensor(ad_checker *checker, const ad_way *way, ad_dtype dtype, const ad_view *from) {
    ad_tensor *tensor = NULL;
    ad_status status = way->layout ? new_in_layout(&tensor, checker->allocator, dtype, &from->shape, way->layout)
                                   : ad_tensor_new(&tensor, checker->allocator, dtype, from->shape, NULL, NULL);
    if (!status) status = ad_view_copy(from, ad_tensor_view(tensor));
    if (!status) return tensor;
    ad_tensor_unref(tensor);
    ad_report_no_memory(checker);
    return NULL;
}

static ad_tensor *input_tensor(ad_checker *checker, const ad_way *way, int i) {
    const ad_view *own = ad_tensor_view(checker->tensor[i]);
    ad_dtype dtype = way->f32 && own->dtype == AD_F64 ? AD_F32 : own->dtype;
    if (dtype == own->dtype && !way->layout) return ad_tensor_ref(checker->tensor[i]);
    return new_tensor(checker, way, dtype, own);
}

/* ---- recording -------------------------------------------------------------------------------------------------- */

static const ad_subject *subject_of(const ad_checker *checker, const ad_way *way) {
    return way->subject ? way->subject : checker->subject;
}

/* Another call must give results of the same types as the first (of the same shapes, in f32). */
static ad_status check_results(ad_checker *checker, const ad_way *way, const ad_var *y, int results) {
    char now[AD_TYPE_TEXT], before[AD_TYPE_TEXT];
    for (int k = 0; k < results && k < checker->results; k++) {
        const ad_part *expected = &checker->result[k];
        ad_view view = ad_value_at(NULL, y[k]);
        if (ad_shape_equal(&view.shape, &expected->shape) && (way->f32 || view.dtype == expected->dtype)) continue;
        return ad_report_broken(checker, "same shapes", "result %d is %s, but was %s on another call", k,
                                ad_type_text(view.dtype, &view.shape, now),
                                ad_type_text(expected->dtype, &expected->shape, before));
    }
    if (results == checker->results) return AD_OK;
    return ad_report_broken(checker, "same shapes", "%d results, but %d on another call", results, checker->results);
}

static ad_status record_subject(ad_checker *checker, const ad_way *way, ad_var *y, int *results) {
    const ad_subject *subject = subject_of(checker, way);
    *results = subject->record(subject, checker->tape, checker->x, y);
    return ad_tape_status(checker->tape) ? ad_report_tape(checker) : AD_OK;
}

/* A new recording. */
static ad_status record(ad_checker *checker, const ad_way *way, int *results) {
    const ad_subject *subject = subject_of(checker, way);
    ad_tape_reset(checker->tape);
    for (int i = 0; i < subject->n; i++) {
        ad_tensor *tensor = input_tensor(checker, way, i);
        if (!tensor) return checker->report->status;
        bool is_constant = subject->no_gradient || (way->only_input && way->only_input != 1 + i);
        checker->x[i] = is_constant ? ad_constant_tensor_at(NULL, checker->tape, NULL, tensor)
                                    : ad_leaf_tensor_at(NULL, checker->tape, NULL, tensor);
        ad_tensor_unref(tensor);
    }
    if (way->alias != way->alias_of) checker->x[way->alias] = checker->x[way->alias_of];
    ad_status status = record_subject(checker, way, checker->y, results);
    if (status || !checker->result) return status;
    return check_results(checker, way, checker->y, *results);
}

static void copy_numbers(const ad_view *view, double *out) {
    ad_view to = ad_view_of(out, AD_F64, view->shape);
    (void)!ad_view_copy(view, &to); /* the shapes are equal */
}

ad_status ad_checker_output(ad_checker *checker, const ad_way *way, double *output) {
    int results;
    ad_status status = record(checker, way, &results);
    for (int k = 0; k < results && !status; k++) {
        ad_view view = ad_value_at(NULL, checker->y[k]);
        copy_numbers(&view, output + checker->result[k].first);
    }
    return status;
}

/* ---- gradients -------------------------------------------------------------------------------------------------- */

/* The weights of result k as a constant of its type. */
static ad_var cotangent(ad_checker *checker, const ad_way *way, int k) {
    ad_view type = ad_value_at(NULL, checker->y[k]);
    const double *weight = (way->weight ? way->weight : checker->weight) + checker->result[k].first;
    ad_view from = ad_view_of((void *)(uintptr_t)weight, AD_F64, type.shape);
    ad_tensor *tensor = new_tensor(checker, way, type.dtype, &from);
    if (!tensor) return (ad_var){0};
    ad_var seed = ad_constant_tensor_at(NULL, checker->tape, NULL, tensor);
    ad_tensor_unref(tensor);
    return seed;
}

ad_var ad_checker_start(const ad_var *y, const ad_var *cotangent, int results, int only, ad_var *seed) {
    ad_var total = {0};
    int used = 0, last = 0;
    *seed = (ad_var){0};
    for (int k = 0; k < results; k++) {
        if (!cotangent[k].tape || (only && only != 1 + k)) continue;
        used++;
        last = k;
    }
    if (used == 1) {
        *seed = cotangent[last];
        return y[last];
    }
    for (int k = 0; k < results; k++) {
        if (!cotangent[k].tape || (only && only != 1 + k)) continue;
        ad_var part = ad_sum_at(NULL, ad_mul_at(NULL, cotangent[k], y[k]), AD_ALL_AXES, false);
        total = total.tape ? ad_add_at(NULL, total, part) : part;
    }
    return total;
}

/* Records what the way wants differentiated, from the start on: an empty variable if nothing is a float. */
static ad_status record_start(ad_checker *checker, const ad_way *way, ad_var *start, ad_var *seed) {
    int results;
    ad_status status = record(checker, way, &results);
    if (!status && way->twice) status = record_subject(checker, way, checker->again, &results);
    if (status) return status;
    ad_var *cotangents = checker->target;
    for (int k = 0; k < results; k++) {
        bool is_float = ad_dtype_is_float(checker->result[k].dtype);
        if (is_float && way->twice) checker->y[k] = ad_add_at(NULL, checker->y[k], checker->again[k]);
        cotangents[k] = is_float ? cotangent(checker, way, k) : (ad_var){0};
        if (is_float && !cotangents[k].tape) return checker->report->status;
    }
    *start = ad_checker_start(checker->y, cotangents, results, way->only_result, seed);
    return ad_tape_status(checker->tape) ? ad_report_tape(checker) : AD_OK;
}

static bool wants(const ad_checker *checker, const ad_way *way, int i) {
    return ad_dtype_is_float(checker->input[i].dtype) && (!way->only_input || way->only_input == 1 + i);
}

ad_status ad_checker_gradient(ad_checker *checker, const ad_way *way, double *gradient) {
    memset(gradient, 0, (size_t)checker->inputs * sizeof *gradient);
    ad_var start = {0}, seed;
    ad_status status = record_start(checker, way, &start, &seed);
    if (status || !start.tape) return status;
    int n = 0;
    for (int i = 0; i < checker->subject->n; i++)
        if (wants(checker, way, i)) checker->target[n++] = checker->x[i];
    if (way->recorded) {
        ad_grad_at(NULL, start, seed, n, checker->target, checker->gradient);
    } else {
        ad_backward_with_at(NULL, start, &(ad_backward_options){.seed = seed});
    }
    n = 0;
    for (int i = 0; i < checker->subject->n && ad_tape_status(checker->tape) == AD_OK; i++) {
        if (!wants(checker, way, i)) continue;
        ad_view view = way->recorded ? ad_value_at(NULL, checker->gradient[n])
                                     : ad_gradient_at(NULL, checker->target[n]);
        n++;
        if (ad_tape_status(checker->tape) == AD_OK) copy_numbers(&view, gradient + checker->input[i].first);
    }
    return ad_tape_status(checker->tape) ? ad_report_tape(checker) : AD_OK;
}

static ad_var tangent(ad_checker *checker, int i, const double *x_dot) {
    const ad_part *part = &checker->input[i];
    return ad_constant_at(NULL, checker->tape, NULL, AD_F64, part->shape, x_dot + part->first);
}

ad_status ad_checker_push(ad_checker *checker, const ad_way *way, const double *x_dot, double *y_dot) {
    int results, n = 0, m = 0;
    ad_status status = record(checker, way, &results);
    if (status) return status;
    for (int i = 0; i < checker->subject->n; i++) {
        if (!wants(checker, way, i)) continue;
        checker->target[n] = checker->x[i];
        checker->gradient[n++] = tangent(checker, i, x_dot);
    }
    for (int k = 0; k < results; k++)
        if (ad_dtype_is_float(checker->result[k].dtype)) checker->again[m++] = checker->y[k];
    if (m > 0) ad_pushforward_at(NULL, n, checker->target, checker->gradient, m, checker->again, checker->y);
    if (ad_tape_status(checker->tape)) return ad_report_tape(checker);
    for (int k = 0, next = 0; k < results; k++) {
        if (!ad_dtype_is_float(checker->result[k].dtype)) continue;
        ad_view view = ad_value_at(NULL, checker->y[next++]);
        copy_numbers(&view, y_dot + checker->result[k].first);
    }
    return AD_OK;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static ad_status open_memory(ad_checker *checker, int n) {
    int room = n > AD_MAX_RESULTS ? n : AD_MAX_RESULTS;
    ad_var **variables[] = {&checker->x, &checker->y, &checker->again, &checker->target, &checker->gradient};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        *variables[i] = ad_arena_take(&checker->memory, (size_t)room * sizeof(ad_var));
        if (!*variables[i]) return ad_report_no_memory(checker);
        memset(*variables[i], 0, (size_t)room * sizeof(ad_var));
    }
    checker->input = ad_arena_take(&checker->memory, (size_t)n * sizeof *checker->input);
    checker->tensor = ad_arena_take(&checker->memory, (size_t)n * sizeof *checker->tensor);
    if (!checker->input || !checker->tensor) {
        checker->tensor = NULL;
        return ad_report_no_memory(checker);
    }
    memset(checker->tensor, 0, (size_t)n * sizeof *checker->tensor);
    ad_tape_options options = {.allocator = checker->allocator};
    checker->tape = ad_tape_new(&options);
    return checker->tape ? AD_OK : ad_report_no_memory(checker);
}

/* The largest power of 2 in max(1, |x|). */
static double scale_of(double x) { return isfinite(x) ? ldexp(1.0, ilogb(fmax(1.0, fabs(x)))) : 1.0; }

static ad_status copy_inputs(ad_checker *checker, const ad_view *x) {
    for (int i = 0; i < checker->subject->n; i++) {
        ad_part *part = &checker->input[i];
        int64_t count = ad_dtype_is_float(x[i].dtype) ? ad_view_count(&x[i]) : 0;
        *part = (ad_part){.dtype = x[i].dtype, .shape = x[i].shape, .first = checker->inputs, .count = count};
        checker->inputs += count;
    }
    checker->value = ad_checker_numbers(checker, checker->inputs);
    checker->center = ad_checker_numbers(checker, checker->inputs);
    checker->scale = ad_checker_numbers(checker, checker->inputs);
    checker->analytic = ad_checker_numbers(checker, checker->inputs);
    if (!checker->value || !checker->center || !checker->scale || !checker->analytic) return AD_ERR_OOM;
    for (int i = 0; i < checker->subject->n; i++) {
        const ad_part *part = &checker->input[i];
        bool is_float = ad_dtype_is_float(part->dtype);
        ad_view own = ad_view_of(checker->value + part->first, AD_F64, part->shape);
        ad_status status = is_float ? ad_tensor_wrap(&checker->tensor[i], checker->allocator, &own, NULL, NULL, NULL)
                                    : ad_tensor_new(&checker->tensor[i], checker->allocator, part->dtype, part->shape,
                                                    NULL, NULL);
        if (!status) status = ad_view_copy(&x[i], ad_tensor_view(checker->tensor[i]));
        if (status) return ad_report_no_memory(checker);
    }
    memcpy(checker->center, checker->value, (size_t)checker->inputs * sizeof *checker->value);
    for (int64_t i = 0; i < checker->inputs; i++) checker->scale[i] = scale_of(checker->center[i]);
    return AD_OK;
}

/* The names that a user's function gave to its inputs with ad_name. */
static ad_status copy_names(ad_checker *checker) {
    for (int i = 0; i < checker->subject->n; i++) {
        ad_node_info info;
        if (ad_tape_node(checker->tape, checker->x[i].index, &info) || !*info.name) continue;
        checker->input[i].name = ad_arena_text(&checker->memory, info.name);
        if (!checker->input[i].name) return ad_report_no_memory(checker);
    }
    return AD_OK;
}

static ad_status first_results(ad_checker *checker) {
    int results;
    ad_status status = record(checker, &(ad_way){0}, &results);
    if (!status) status = copy_names(checker);
    if (status) return status;
    ad_part *result = ad_arena_take(&checker->memory, (size_t)results * sizeof *result);
    if (!result) return ad_report_no_memory(checker);
    for (int k = 0; k < results; k++) {
        ad_view view = ad_value_at(NULL, checker->y[k]);
        int64_t count = ad_view_count(&view);
        result[k] = (ad_part){.dtype = view.dtype, .shape = view.shape, .first = checker->outputs, .count = count};
        checker->outputs += count;
        if (ad_dtype_is_float(view.dtype)) checker->float_outputs += count;
    }
    checker->result = result;
    checker->results = results;
    checker->output = ad_checker_numbers(checker, checker->outputs);
    checker->weight = ad_checker_numbers(checker, checker->outputs);
    return checker->output && checker->weight ? AD_OK : AD_ERR_OOM;
}

/* Away from 0, so that no element escapes. A single number is left as it is, so that what is reported is its own. */
static void draw_weights(ad_checker *checker) {
    for (int k = 0; k < checker->results; k++) {
        const ad_part *part = &checker->result[k];
        for (int64_t i = part->first; i < part->first + part->count && ad_dtype_is_float(part->dtype); i++) {
            double draw = ad_rng_normal(&checker->rng);
            checker->weight[i] = checker->float_outputs == 1 ? 1 : draw + copysign(0.5, draw);
        }
    }
}

ad_status ad_checker_open(ad_checker *checker, const ad_subject *subject, const ad_view *x,
                          const ad_check_options *options, ad_check_report *report, const char *setting) {
    *checker = (ad_checker){.subject = subject, .options = options, .report = report, .setting = setting};
    checker->allocator = options->allocator;
    checker->rng.seed = options->seed;
    ad_arena_open(&checker->memory, checker->allocator);
    ad_status status = open_memory(checker, subject->n);
    if (!status) status = copy_inputs(checker, x);
    if (!status) status = first_results(checker);
    if (status) return status;
    draw_weights(checker);
    return ad_checker_output(checker, &(ad_way){0}, checker->output);
}

void ad_checker_close(ad_checker *checker) {
    ad_tape_free(checker->tape);
    for (int i = 0; checker->tensor && i < checker->subject->n; i++) ad_tensor_unref(checker->tensor[i]);
    ad_arena_close(&checker->memory);
}
