/* Functions, called on variables and on numbers. */
#include "autodiff/transform/transform.h"

#include <string.h>

static const char *name_of(const ad_function *f) {
    return f->transform ? f->transform->name : f->name ? f->name : "a function";
}

/* ---- on variables ------------------------------------------------------------------------------------------------ */

static bool is_complete(const ad_function *f) {
    return f->inputs > f->constants && f->constants >= 0 && f->outputs > 0;
}

static bool check_function(ad_tape *tape, const ad_function *f, const char *where) {
    if (!f) {
        ad_tape_fail(tape, AD_ERR_NULL, "ad_function_record", where, "the function is NULL");
    } else if (f->transform && !f->of) {
        ad_tape_fail(tape, AD_ERR_NULL, name_of(f), where, "the function that it transforms is NULL");
    } else if (f->transform && !is_complete(f->of)) {
        return check_function(tape, f->of, where);
    } else if (f->constants < 0 || f->constants >= ad_max_int(f->inputs, 1)) {
        ad_tape_fail(tape, AD_ERR_VALUE, name_of(f), where,
                     ".constants is %d: of %d inputs, at least one is differentiated by", f->constants, f->inputs);
    } else if (f->inputs < 1 || f->outputs < 1) {
        ad_tape_fail(tape, AD_ERR_VALUE, name_of(f), where,
                     ".inputs is %d and .outputs is %d: a function has at least one of each", f->inputs, f->outputs);
    } else if (!f->transform && !f->fn) {
        ad_tape_fail(tape, AD_ERR_NULL, name_of(f), where, ".fn is NULL");
    } else {
        return true;
    }
    return false;
}

static bool check_vars(ad_tape *tape, const ad_function *f, const char *where, const char *role, int n,
                       const ad_var *x) {
    for (int i = 0; i < n; i++) {
        if (x[i].tape == tape && ad_var_is_valid(x[i])) continue;
        char text[32];
        size_t length = 0;
        ad_text_add(text, sizeof text, &length, "%s %d", role, i);
        return ad_tape_check_var(tape, x[i], name_of(f), where, text);
    }
    return true;
}

static void call_user(const char *where, const ad_function *f, ad_tape *tape, const ad_var *in, ad_var *out) {
    uint32_t since = tape->first_generation;
    memset(out, 0, (size_t)f->outputs * sizeof *out); /* an output that it does not set is an empty variable */
    ad_status status = f->fn(tape, in, out, f->user);
    if (tape->first_generation != since) {
        ad_tape_fail(tape, AD_ERR_HANDLE, name_of(f), where, "it reset the tape that it was to record on");
    } else if (status) {
        ad_tape_fail(tape, status, name_of(f), where, "it returned %s", ad_status_name(status));
    } else if (!tape->error.status) {
        check_vars(tape, f, where, "output", f->outputs, out);
    }
}

static ad_status call(const char *where, const ad_function *f, ad_tape *tape, const ad_var *in, ad_var *out,
                      bool on_numbers) {
    if (tape->error.status || !check_function(tape, f, where) || !check_vars(tape, f, where, "input", f->inputs, in))
        return tape->error.status;
    if (f->transform) {
        ad_transform_call(where, f, tape, in, out, on_numbers);
    } else {
        call_user(where, f, tape, in, out);
    }
    return tape->error.status;
}

ad_status ad_function_call(const char *where, const ad_function *f, ad_tape *tape, const ad_var *in, ad_var *out) {
    return call(where, f, tape, in, out, false);
}

void ad_scratch_back(ad_tape *tape, uint64_t position) {
    if (ad_arena_position(&tape->scratch) > position) ad_arena_rewind(&tape->scratch, position);
}

ad_status ad_function_record_at(const char *where, const ad_function *f, ad_tape *tape, const ad_var *in,
                                ad_var *out) {
    if (!tape) return AD_ERR_NULL;
    if (tape->error.status || !check_function(tape, f, where)) {
        for (int j = 0; f && out && j < f->outputs; j++) out[j] = ad_var_invalid(tape);
        return tape->error.status;
    }
    if (!in || !out)
        return ad_tape_fail(tape, AD_ERR_NULL, name_of(f), where, "the %s are NULL", in ? "outputs" : "inputs");
    /* The caller's arrays may be one. */
    uint64_t scratch = ad_arena_position(&tape->scratch);
    size_t n = (size_t)f->inputs, m = (size_t)f->outputs;
    ad_var *own = ad_arena_take(&tape->scratch, (n + m) * sizeof *own);
    if (own) {
        memcpy(own, in, n * sizeof *own);
        ad_function_call(where, f, tape, own, own + n);
    } else {
        ad_tape_out_of_memory(tape, name_of(f), where);
    }
    for (size_t j = 0; j < m; j++) out[j] = tape->error.status ? ad_var_invalid(tape) : own[n + j];
    ad_scratch_back(tape, scratch);
    return tape->error.status;
}

/* ---- on numbers -------------------------------------------------------------------------------------------------- */

static ad_status copy_out(ad_var y, const ad_allocator *allocator, ad_tensor **out, ad_error *error) {
    ad_view view = ad_value_at(NULL, y);
    ad_status status = ad_tensor_new(out, allocator, view.dtype, view.shape, NULL, error);
    return status ? status : ad_view_copy(&view, ad_tensor_view(*out));
}

static ad_status evaluate_on(ad_tape *tape, const char *where, const ad_function *f, const ad_allocator *allocator,
                             ad_tensor *const *in, ad_tensor **out, ad_error *error) {
    size_t n = (size_t)f->inputs, m = (size_t)f->outputs;
    ad_var *x = ad_arena_take(&tape->extras, (n + m) * sizeof *x), *y = x ? x + n : NULL;
    if (!x) ad_tape_out_of_memory(tape, name_of(f), where);
    for (size_t i = 0; x && i < n; i++) x[i] = ad_leaf_tensor_at(where, tape, NULL, in[i]);
    if (tape->error.status || call(where, f, tape, x, y, true))
        return ad_error_set(error, tape->error.status, "%s", tape->error.message);
    ad_status status = AD_OK;
    for (size_t j = 0; j < m && !status; j++) status = copy_out(y[j], allocator, &out[j], error);
    for (size_t j = 0; j < m && status; j++) {
        ad_tensor_unref(out[j]);
        out[j] = NULL;
    }
    return status;
}

ad_status ad_function_evaluate_at(const char *where, const ad_function *f, const ad_allocator *allocator,
                                  ad_tensor *const *in, ad_tensor **out, ad_error *error) {
    for (int j = 0; f && out && j < f->outputs; j++) out[j] = NULL;
    if (!f || !in || !out)
        return ad_error_set(error, AD_ERR_NULL, "ad_function_evaluate: the %s NULL",
                            !f    ? "function is"
                            : !in ? "inputs are"
                                  : "outputs are");
    ad_tape *tape = ad_tape_new(&(ad_tape_options){.allocator = allocator});
    if (!tape) return ad_error_set(error, AD_ERR_OOM, "%s: out of memory for a tape", name_of(f));
    tape->zeros_stop = true; /* rows of a Jacobian are mostly 0 */
    ad_status status = check_function(tape, f, where)
                           ? evaluate_on(tape, where, f, allocator, in, out, error)
                           : ad_error_set(error, tape->error.status, "%s", tape->error.message);
    ad_tape_free(tape);
    return status;
}
