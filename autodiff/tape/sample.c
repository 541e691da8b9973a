/* Random inputs for an op's samples. */
#include "autodiff/tape/tape.h"

#include <math.h>

/* Another input, row-major; NULL (and an error) if there is no room. */
static ad_tensor *add_input(ad_sample *sample, ad_dtype dtype, ad_shape shape) {
    if (sample->error.status) return NULL;
    if (sample->inputs == AD_MAX_SAMPLE_INPUTS) {
        ad_error_set(&sample->error, AD_ERR_LIMIT, "a sample has at most %d inputs", AD_MAX_SAMPLE_INPUTS);
        return NULL;
    }
    ad_tensor *tensor;
    if (ad_tensor_new(&tensor, sample->allocator, dtype, shape, NULL, &sample->error)) return NULL;
    return sample->input[sample->inputs++] = tensor;
}

static void set(ad_tensor *tensor, int64_t i, double value) {
    ad_element_set((char *)tensor->view.data + i * (int64_t)ad_dtype_size(tensor->view.dtype), tensor->view.dtype,
                   value);
}

bool ad_sample_normal(ad_sample *sample, ad_shape shape) {
    ad_tensor *tensor = add_input(sample, sample->dtype, shape);
    if (!tensor) return false;
    for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++) set(tensor, i, ad_rng_normal(&sample->rng));
    return true;
}

bool ad_sample_uniform(ad_sample *sample, ad_shape shape, double low, double high) {
    ad_tensor *tensor = add_input(sample, sample->dtype, shape);
    if (!tensor) return false;
    for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++)
        set(tensor, i, low + (high - low) * ad_rng_uniform(&sample->rng));
    return true;
}

bool ad_sample_away(ad_sample *sample, ad_shape shape, double point, double gap) {
    ad_tensor *tensor = add_input(sample, sample->dtype, shape);
    if (!tensor) return false;
    for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++) {
        double offset = ad_rng_normal(&sample->rng);
        set(tensor, i, point + offset + copysign(gap, offset));
    }
    return true;
}

bool ad_sample_index(ad_sample *sample, ad_shape shape, int64_t bound) {
    ad_tensor *tensor = add_input(sample, AD_I64, shape);
    if (!tensor) return false;
    for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++)
        ((int64_t *)tensor->view.data)[i] = ad_rng_below(&sample->rng, bound);
    return true;
}

bool ad_sample_simplex(ad_sample *sample, ad_shape shape) {
    ad_tensor *tensor = add_input(sample, sample->dtype, shape);
    if (!tensor) return false;
    int64_t n = shape.rank ? shape.dim[shape.rank - 1] : 1;
    for (int64_t row = 0, count = ad_shape_count(&shape); row < count; row += n) {
        double sum = 0;
        /* exponential variates, normalised, are uniform on the simplex (Devroye 1986, ch. V.2) */
        for (int64_t i = row; i < row + n; i++) {
            double value = 0.05 - log(1.0 - ad_rng_uniform(&sample->rng));
            set(tensor, i, value);
            sum += value;
        }
        for (int64_t i = row; i < row + n; i++) set(tensor, i, ad_view_get(&tensor->view, i) / sum);
    }
    return true;
}
