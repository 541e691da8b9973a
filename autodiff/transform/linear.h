/* Inside the transforms: the derivative of a function at a point. */
#ifndef AD_LINEAR_INTERNAL_H
#define AD_LINEAR_INTERNAL_H

#include "autodiff/transform/transform.h"

struct ad_linear {
    ad_tape *tape; /* f(x), and nothing after it but during a product */
    const ad_allocator *allocator;
    const char *where;
    const ad_function *f;
    int inputs, n, m; /* all inputs; without constants; outputs */
    int64_t rows, columns;
    ad_var *x, *y; /* [n] and the constants, [m] */
    ad_var start;  /* all outputs together: where walks back begin */
    ad_mark end;
    bool is_recorded;
    size_t size;     /* of this block */
    ad_tensor *in[]; /* values of x, our own */
};

/* Not NULL, and recorded. `subject` is the function that was asked. */
ad_status ad_linear_check(const ad_linear *linear, const char *subject, ad_error *error);

/* Several products: of each row of `vectors`, with the matrix or (pulls) its transpose, of a map that was checked. */
ad_status ad_linear_multiply(ad_linear *linear, bool pulls, int64_t count, const double *vectors, double *products,
                             ad_error *error);
/* How many of so many products are best asked for together. */
int64_t ad_linear_batch(const ad_linear *linear, int64_t products);

#endif
